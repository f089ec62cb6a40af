"""Values derived from tensors, kept while those stay as they are."""

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor


class DerivedCache:
    """One value computed without gradient, dropped when a tensor it was computed from changes.

    A change is seen by the version counter that every in-place operation raises, and by another
    tensor or storage (`.to()`, `load_state_dict(assign=True)`). Writing through `parameter.data`
    raises no counter: on the CPU the values are compared as well, elsewhere call `drop()` after it.
    """

    _sources: list[Tensor]
    _key: tuple[Any, ...] | None
    _copies: list[Tensor]
    _value: Any

    def __init__(self) -> None:
        self.drop()

    def get(
        self, sources: Iterable[Tensor], compute: Callable[[], Any], key: Hashable = None
    ) -> Any:
        """The kept value, or a new one by `compute`; `key` holds what else it depends on."""
        sources = list(sources)
        if any(source.is_inference() for source in sources):
            return compute()
        # Identity says more than the address, which a new tensor may have from a freed one.
        known = [id(source) for source in sources] == [id(source) for source in self._sources]
        state = (key, *((s._version, s.data_ptr(), s.dtype, s.device) for s in sources))
        on_cpu = [source.detach() for source in sources if source.device.type == "cpu"]
        if not (known and state == self._key and all(map(torch.equal, on_cpu, self._copies))):
            self._value = compute()
            self._sources, self._key = sources, state
            self._copies = [tensor.clone() for tensor in on_cpu]
        return self._value

    def drop(self) -> None:
        """Forget the value."""
        self._sources, self._key, self._copies, self._value = [], None, [], None

    def __deepcopy__(self, memo: dict[int, Any]) -> "DerivedCache":
        return DerivedCache()

    def __getstate__(self) -> dict[str, Any]:
        return DerivedCache().__dict__
