"""Values derived from parameters, kept while the parameters stay as they are."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn


class DerivedCache:
    """One value computed from parameters without gradient, dropped when one of them changes.

    A change is seen by the version counter that every in-place operation raises, and by a new
    storage (`.to()`, `load_state_dict(assign=True)`). Writing through `parameter.data` raises no
    counter: on the CPU the values are compared as well, elsewhere call `drop()` after it.
    """

    _key: tuple[Any, ...] | None
    _copies: list[Tensor]
    _value: Any

    def __init__(self) -> None:
        self.drop()

    def get(self, parameters: Iterable[nn.Parameter], compute: Callable[[], Any]) -> Any:
        """The kept value, or a new one by `compute`."""
        parameters = list(parameters)
        if any(parameter.is_inference() for parameter in parameters):
            return compute()
        key = tuple((p._version, p.data_ptr(), p.dtype, p.device) for p in parameters)
        on_cpu = [p.detach() for p in parameters if p.device.type == "cpu"]
        if key != self._key or not all(map(torch.equal, on_cpu, self._copies)):
            self._value = compute()
            self._key, self._copies = key, [tensor.clone() for tensor in on_cpu]
        return self._value

    def drop(self) -> None:
        """Forget the value."""
        self._key, self._copies, self._value = None, [], None

    def __deepcopy__(self, memo: dict[int, Any]) -> "DerivedCache":
        return DerivedCache()

    def __getstate__(self) -> dict[str, Any]:
        return DerivedCache().__dict__
