"""Samplers by name. All share the signature (model, process, noise, num_steps, on_step=None)."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

from harope._utils.checks import check_integer
from harope.diffusion.flow import RectifiedFlow
from harope.diffusion.flow_sampling import euler_sample, heun_sample
from harope.diffusion.gaussian import GaussianDiffusion
from harope.diffusion.gaussian_sampling import (
    ancestral_sample,
    check_dpm_steps,
    ddim_sample,
    dpm_solver_sample,
)
from harope.diffusion.process import Process
from harope.diffusion.schedule import respaced_timesteps

Sampler = Callable[..., Float[Tensor, "batch channels height width"]]
"""A sampler such as `euler_sample`."""

_BY_PROCESS: dict[type[Process], dict[str, Sampler]] = {
    GaussianDiffusion: {
        "ancestral": ancestral_sample,
        "ddim": ddim_sample,
        "dpm": dpm_solver_sample,
    },
    RectifiedFlow: {"euler": euler_sample, "heun": heun_sample},
}

SAMPLERS: dict[str, Sampler] = {
    name: sampler for group in _BY_PROCESS.values() for name, sampler in group.items()
}
"""All samplers by name."""


def sampler_for(name: str, process: Process, num_steps: int | None = None) -> Sampler:
    """Look up a sampler and check that it is defined for the process.

    Args:
        name: Name of the sampler, such as "euler".
        process: The process to sample from.
        num_steps: Number of steps to check as well; None for no check, which the sampler makes
            itself.

    Returns:
        The sampler.

    Raises:
        ValueError: If the name is unknown, the sampler is for another kind of process, or it cannot
            sample with so many steps.
    """
    known = next((group for kind, group in _BY_PROCESS.items() if isinstance(process, kind)), {})
    if not known:
        raise ValueError(
            f"sampler {name!r} does not go with {type(process).__name__}: it has no samplers"
        )
    if not isinstance(name, str) or name not in known:
        raise ValueError(
            f"sampler {name!r} does not go with {type(process).__name__}: "
            f"choose one of {', '.join(known)}"
        )
    if num_steps is not None:
        _check_steps(name, process, num_steps)
    return known[name]


def _check_steps(name: str, process: Process, num_steps: int) -> None:
    if not isinstance(process, GaussianDiffusion):
        check_integer("num_steps", num_steps, 1)
    elif name == "dpm":
        check_dpm_steps(process.config.num_timesteps, num_steps)
    else:
        respaced_timesteps(process.config.num_timesteps, num_steps)
