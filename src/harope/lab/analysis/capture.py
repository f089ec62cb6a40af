"""Access to the queries and keys of every attention of a forward pass, in any model."""

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

T = TypeVar("T")


def capture_attention(
    forward: Callable[[], Any], read: Callable[[Tensor, Tensor], T], num_layers: int
) -> list[T]:
    """Run a forward pass and evaluate a function of each attention's queries and keys.

    Queries and keys are read where they enter `scaled_dot_product_attention`: after QK-norm, basis
    and rotation.

    Args:
        forward: Runs the model.
        read: Computes what is needed from queries and keys, each (batch, heads, tokens, head_dim).
        num_layers: Number of attentions in the model.

    Returns:
        The results of `read`, layer by layer.

    Raises:
        ValueError: The number of calls differs from `num_layers`, as in a model that computes
            attention by other means.
    """
    capture = _AttentionCapture(read)
    with capture:
        forward()
    if len(capture.results) != num_layers:
        raise ValueError(
            f"The model has {num_layers} attentions but called scaled_dot_product_attention "
            f"{len(capture.results)} times: switch its fused attention on"
        )
    return capture.results


class _AttentionCapture(TorchFunctionMode, Generic[T]):
    def __init__(self, read: Callable[[Tensor, Tensor], T]) -> None:
        super().__init__()
        self._read = read
        self.results: list[T] = []

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is F.scaled_dot_product_attention:
            self.results.append(self._read(args[0], args[1]))
        return func(*args, **(kwargs or {}))
