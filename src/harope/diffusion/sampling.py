"""Samplers by name. All have one signature: (model, process, noise, num_steps, on_step=None)."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from harope.diffusion.flow import RectifiedFlow
from harope.diffusion.flow_sampling import euler_sample, heun_sample
from harope.diffusion.gaussian import GaussianDiffusion
from harope.diffusion.gaussian_sampling import ancestral_sample, ddim_sample, dpm_solver_sample
from harope.diffusion.process import Process

Sampler = Callable[..., Float[Tensor, "batch channels height width"]]

_OF_PROCESS: dict[type[Process], dict[str, Sampler]] = {
    GaussianDiffusion: {
        "ancestral": ancestral_sample,
        "ddim": ddim_sample,
        "dpm": dpm_solver_sample,
    },
    RectifiedFlow: {"euler": euler_sample, "heun": heun_sample},
}

SAMPLERS: dict[str, Sampler] = {
    name: sampler for family in _OF_PROCESS.values() for name, sampler in family.items()
}


def sampler_for(name: str, process: Process) -> Sampler:
    """Return the sampler of this name, checked to go with the process.

    Raises ValueError for an unknown name, or one that belongs to another process.
    """
    own = next((own for kind, own in _OF_PROCESS.items() if isinstance(process, kind)), {})
    if name not in own:
        raise ValueError(
            f"sampler {name!r} does not go with {type(process).__name__}: "
            f"choose one of {', '.join(own) or 'none: it has no samplers'}"
        )
    return own[name]
