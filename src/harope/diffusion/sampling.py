"""Samplers by name. All share the signature (model, process, noise, num_steps, on_step=None)."""

from collections.abc import Callable

from jaxtyping import Float
from torch import Tensor

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


def sampler_for(name: str, process: Process) -> Sampler:
    """Look up a sampler and check that it is defined for the process.

    Args:
        name: Name of the sampler, such as "euler".
        process: The process to sample from.

    Returns:
        The sampler.

    Raises:
        ValueError: If the name is unknown or the sampler is for another kind of process.
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
    return known[name]


def check_sampling(name: str, process: Process, num_steps: int) -> None:
    """Check that a sampler is defined for a process and a number of steps, without sampling.

    Args:
        name: Name of the sampler, such as "euler".
        process: The process to sample from.
        num_steps: Number of sampler steps.

    Raises:
        ValueError: If the sampler is unknown or for another process, or `num_steps` is out of its
            range.
    """
    sampler_for(name, process)
    if isinstance(process, GaussianDiffusion):
        check = check_dpm_steps if name == "dpm" else respaced_timesteps
        check(process.config.num_timesteps, num_steps)
