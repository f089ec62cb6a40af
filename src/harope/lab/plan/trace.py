"""Operations and memory of a forward pass, counted on tensors without values.

A model on the meta device, whose weights have shapes and no memory, is given fake tensors of a GPU:
PyTorch chooses the operators that it would choose there, and computes shapes only. So a model of
any size is counted on any machine in seconds, and what is counted is the code that runs, not a
formula of it.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from harope.integrations.registry import find_integration

Forward: TypeAlias = Callable[[nn.Module, int, torch.device], Tensor]
"""Creates the inputs of so many images on a device, and computes a scalar loss with the model."""


@dataclass(frozen=True)
class SavedBytes:
    """Memory of the tensors that a forward pass keeps for the backward pass.

    Parameters and buffers do not count, and a memory that several tensors share counts once.
    """

    total: int
    """Bytes of the whole model."""
    blocks: tuple[int, ...]
    """Bytes of each transformer block."""
    block_inputs: int
    """Bytes of the inputs of all blocks, which is all that gradient checkpointing keeps."""

    @property
    def checkpointed(self) -> int:
        """Bytes with gradient checkpointing, while the largest block is computed again."""
        return self.total - sum(self.blocks) + self.block_inputs + max(self.blocks)


@dataclass(frozen=True, kw_only=True)
class ForwardTrace:
    """What a forward pass of a training computes, and what it keeps for the backward pass."""

    flops: int
    """Operations of matrix products and convolutions, two per multiplication and addition."""
    operators: int
    """Number of operators that are called, each of which the CPU launches; views do not count."""
    saved: SavedBytes
    """Memory that is kept."""


def trace_forward(
    model: nn.Module, forward: Forward, batch: int, *, dtype: torch.dtype | None
) -> ForwardTrace:
    """Count a forward pass on a GPU that need not be here.

    Args:
        model: Model in training mode on the meta device; its parameters are replaced.
        forward: Forward pass.
        batch: Number of images.
        dtype: Dtype of autocast; None for none.

    Returns:
        The counts.
    """
    device = torch.device("cuda", 0)
    with FakeTensorMode():
        _replace_tensors(model, device)
        with (
            FlopCounterMode(display=False) as counter,
            _forced_autocast(device.type, dtype),
            _FusedAttention(),
            _Operators() as operators,
        ):
            saved = count_saved(model, lambda: forward(model, batch, device))
    return ForwardTrace(flops=counter.get_total_flops(), operators=operators.count, saved=saved)


def count_saved(model: nn.Module, forward: Callable[[], Tensor]) -> SavedBytes:
    """Run a forward pass and count the memory that it keeps for the backward pass.

    Args:
        model: A transformer that `harope.integrations` supports, without gradient checkpointing.
        forward: Runs the model.

    Returns:
        The counts.
    """
    own = {_key(tensor) for tensor in (*model.parameters(), *model.buffers())}
    kept, inputs = _Storages(own), _Storages(own)
    blocks: list[int] = []

    def pack(tensor: Tensor) -> Tensor:
        kept.add(tensor)
        return tensor

    def enter(_: nn.Module, args: Any, kwargs: Any) -> None:
        for value in tree_leaves((args, kwargs)):
            if isinstance(value, Tensor):
                inputs.add(value)
        blocks.append(-kept.bytes)

    def leave(*_: Any) -> None:
        blocks[-1] += kept.bytes

    handles = []
    for block in model_blocks(model):
        handles.append(block.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(block.register_forward_hook(leave))
    try:
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            forward()
    finally:
        for handle in handles:
            handle.remove()
    return SavedBytes(kept.bytes, tuple(blocks), inputs.bytes)


class _Storages:
    """Counter of the bytes of distinct storages, which it keeps alive so that no key is reused."""

    def __init__(self, own: set[int]) -> None:
        self.bytes = 0
        self._own, self._seen = own, dict[int, torch.UntypedStorage]()

    def add(self, tensor: Tensor) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key not in self._own and key not in self._seen:
            self._seen[key] = storage
            self.bytes += storage.nbytes()


def model_blocks(model: nn.Module) -> list[nn.Module]:
    """List the transformer blocks: the parent modules of the attentions.

    Args:
        model: A transformer that `harope.integrations` supports.

    Returns:
        The blocks in order.
    """
    layers = find_integration(model).layers(model)
    # A block with two attentions is listed once.
    names = dict.fromkeys(layer.name.rpartition(".")[0] for layer in layers)
    return [model.get_submodule(name) for name in names]


def _replace_tensors(model: nn.Module, device: torch.device) -> None:
    """Replace parameters and buffers by new ones on another device; shared ones stay shared."""
    replaced: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is None:
                    continue
                if id(tensor) not in replaced:
                    new = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                    is_parameter = isinstance(tensor, nn.Parameter)
                    replaced[id(tensor)] = (
                        nn.Parameter(new, tensor.requires_grad) if is_parameter else new
                    )
                tensors[name] = replaced[id(tensor)]


class _FusedAttention(TorchFunctionMode):
    """Calls the attention kernels of GPUs, which PyTorch only chooses where there is a GPU."""

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not F.scaled_dot_product_attention:
            return func(*args, **kwargs)
        return _attention(*args, **kwargs)


class _Operators(TorchDispatchMode):
    """Counter of the operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        self.count += func.namespace != "prim" and not func.is_view
        return func(*args, **(kwargs or {}))


def _attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Compute attention by FlashAttention, or by the memory-efficient kernel in float32."""
    if torch.is_autocast_enabled(query.device.type):
        dtype = torch.get_autocast_dtype(query.device.type)
        query, key, value = (x.to(dtype) for x in (query, key, value))
    if query.dtype == torch.float32 or attn_mask is not None:
        efficient = torch.ops.aten._scaled_dot_product_efficient_attention
        return efficient(query, key, value, attn_mask, True, dropout_p, is_causal, scale=scale)[0]
    flash = torch.ops.aten._scaled_dot_product_flash_attention
    return flash(query, key, value, dropout_p, is_causal, scale=scale)[0]


@contextmanager
def _forced_autocast(device: str, dtype: torch.dtype | None) -> Iterator[None]:
    """Enable autocast, which `torch.autocast` refuses on machines without the device."""
    before = torch.is_autocast_enabled(device), torch.get_autocast_dtype(device)
    if dtype is not None:
        torch.set_autocast_dtype(device, dtype)
    torch.set_autocast_enabled(device, dtype is not None)
    try:
        yield
    finally:
        torch.clear_autocast_cache()
        torch.set_autocast_enabled(device, before[0])
        torch.set_autocast_dtype(device, before[1])


def _key(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata
