"""Training in several processes: how they divide the model, and what they must agree on.

DDP keeps a copy of the model in every process. FSDP2 divides parameters, gradients, moments and EMA
weights among the processes, and gathers the parameters of a block when its forward or backward pass
begins. Both average the gradients, so that a training does not depend on which one is chosen, up to
rounding.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn

from harope import __version__
from harope._utils.digests import bytes_digest
from harope._utils.distributed import this_process
from harope._utils.identity import first_difference
from harope._utils.processes import host_name
from harope._utils.sharding import full_tensor, is_sharded
from harope.lab.training.optim import transformer_blocks
from harope.lab.training.serialization import flat, to_json
from harope.lab.training.task import RunConfig


def start_processes(config: RunConfig) -> Accelerator:
    """Join the processes of a training, and check that they can do it together.

    Args:
        config: Configuration of the training.

    Returns:
        The processes, their devices and the mixed precision.

    Raises:
        ValueError: If the batch cannot be divided among the processes, FSDP has only one, or the
            processes have other configurations or another harope.
    """
    state = this_process()
    micro_batch, count = config.batch_size // config.accumulation, state.num_processes
    if config.parallel == "fsdp" and count == 1:
        raise ValueError(
            "parallel is fsdp, but there is only one process to divide the model among: start "
            "several with torchrun --nproc_per_node N -m harope train ..., or leave parallel at ddp"
        )
    if micro_batch % count:
        parts = "" if config.accumulation == 1 else f" / accumulation {config.accumulation}"
        fitting = max(n for n in range(1, count + 1) if micro_batch % n == 0)
        raise ValueError(
            f"batch_size {config.batch_size}{parts} cannot be divided equally among {count} "
            f"processes: start {fitting}, or set batch_size to a multiple of "
            f"{count * config.accumulation}"
        )
    if count > 1:
        _check_same(config)
    return Accelerator(mixed_precision=config.precision)


def _check_same(config: RunConfig) -> None:
    """Raise ValueError, in every process, if they differ in code or configuration."""
    own = {
        "harope": __version__,
        "torch": torch.__version__,
        "code": _code_digest(),
        "config": flat(to_json(config)),
        "host": host_name(),
    }
    first, *others = gather_object([own])
    for rank, other in enumerate(others, 1):
        if difference := first_difference(first, other, ignore=("host",)):
            raise ValueError(
                f"the processes differ: process 0 on {first['host']} has {difference} as process "
                f"{rank} on {other['host']} has: install the same harope and pass the same "
                f"arguments everywhere"
            )


def _code_digest() -> str:
    """Return a digest of harope's source files."""
    root = Path(__file__).parents[2]
    files = sorted(root.rglob("*.py"))
    contents = ([str(file.relative_to(root)).encode(), file.read_bytes()] for file in files)
    return bytes_digest(*(part for pair in contents for part in pair), length=16)


def shard_model(model: nn.Module, device: torch.device) -> None:
    """Divide the parameters of a transformer among all processes by FSDP2, block by block.

    Weights stay float32 also under mixed precision, so that encodings are computed in float32.

    Args:
        model: A transformer that `harope.integrations` supports, the same in every process.
        device: Device of this process.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    # True, but nobody here writes to outputs in place.
    warnings.filterwarnings("ignore", "FSDP2-wrapped module .* returned a view tensor")
    mesh = init_device_mesh(device.type, (this_process().num_processes,))
    for block in transformer_blocks(model):
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)


def add_gradients(loss: Tensor, parameters: Iterable[nn.Parameter]) -> None:
    """Add the gradients of a loss that is computed from sharded parameters, outside of the model.

    Args:
        loss: The loss, a scalar that is the same in every process.
        parameters: Sharded parameters, each of which has a gradient.
    """
    if not loss.requires_grad:
        return
    trained: list[Any] = [parameter for parameter in parameters if parameter.requires_grad]
    gradients = torch.autograd.grad(full_tensor(loss), trained, allow_unused=True)
    for parameter, gradient in zip(trained, gradients, strict=True):
        if gradient is not None:
            placed: Any = gradient
            sharded = placed.redistribute(placements=parameter.placements)
            parameter.grad = parameter.grad + sharded


def gather(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """Gather sharded tensors one after another; every process must call it.

    Args:
        tensors: Named tensors, sharded or not.
        keep: Whether this process needs the result.

    Returns:
        Complete tensors by name, those that were sharded on the CPU; none if `keep` is false.
    """
    result = {}
    for name, value in tensors.items():
        whole = full_tensor(value)
        if keep:
            result[name] = whole.cpu() if is_sharded(value) else whole
    return result


@contextmanager
def unsharded(model: nn.Module) -> Iterator[None]:
    """Gather all parameters of a sharded model, so that forwards need no other process.

    Every process must enter the block. It does nothing to a model that is not sharded.

    Args:
        model: The model.

    Yields:
        None. Inside the block the parameters are plain tensors.
    """
    from torch.distributed.fsdp import FSDPModule

    parts = [cast(Any, part) for part in model.modules() if isinstance(part, FSDPModule)]
    for part in parts:
        # Blocks would drop their parameters after each forward.
        part.set_reshard_after_forward(False, recurse=False)
        part.unshard()
    try:
        yield
    finally:
        for part in parts:
            part.reshard()
            # As `fully_shard` sets it: only the root keeps its parameters until the backward pass.
            part.set_reshard_after_forward(part is not model, recurse=False)
