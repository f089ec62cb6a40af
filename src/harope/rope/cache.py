"""Explicit scope in which encodings reuse their matrices and rotation tables.

A sampling loop or an evaluation runs many forwards with the same weights; the matrices of a basis
and the cosines and sines of a grid are the same in all of them:

    with torch.no_grad(), cached(model):
        for batch in batches:
            model(batch)

Nothing is kept outside a scope, so that no value can outlive the weights it was computed from.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from harope.rope._fast.execution_mode import runs_real_tensors

Value = TypeVar("Value")


@contextmanager
def cached(module: nn.Module) -> Iterator[None]:
    """Let every encoding inside `module` compute its matrices and rotation tables only once.

    The caller promises that weights and positions are not written in place while the scope is
    open. Parameters, bases, frequencies and scalings that are *replaced* (`functional_call`,
    assignment, offloading, `set_scaling`, `.to()`) are noticed.

    The scope has no effect on calls with gradients enabled, on modules in training mode, and under
    `torch.compile`, exporters, function transforms (`torch.vmap`) and fake tensors: these compute
    their own values every time and store nothing.

    Scopes may be nested: values are dropped when the outermost scope of an encoding closes, after
    exceptions too. Copies, pickles and state dicts made inside a scope do not contain the values.

    Args:
        module: A model, a layer or a single encoding.
    """
    opened = [
        part for part in module.modules() if isinstance(part, CachingModule) and not part.in_scope
    ]
    for part in opened:
        part._scope_cache = ScopeCache()
    try:
        yield
    finally:
        for part in opened:
            del part._scope_cache


class _Entry(NamedTuple):
    value: Any
    sources: tuple[Any, ...]
    """What the value was computed from, held so that no new object can take their identity."""
    identities: tuple[Any, ...]


class ScopeCache:
    """Values of one encoding, for as long as a `cached` scope is open."""

    def __init__(self) -> None:
        self._entries: dict[Hashable, _Entry] = {}
        # Entries are dropped with their tensor: a loop over new positions must not fill the memory.
        self._entries_by_tensor = WeakTensorKeyDictionary()

    def get(
        self,
        key: Hashable,
        compute: Callable[[], Value],
        sources: Iterable[Any],
        tensor: Tensor | None,
    ) -> Value:
        """Return the stored value, or compute and store it."""
        entries = self._entries
        if tensor is not None:
            entries = self._entries_by_tensor.setdefault(tensor, {})
        sources = tuple(sources)
        identities = tuple(map(_identity, sources))
        entry = entries.get(key)
        if entry is None or entry.identities != identities:
            entry = entries[key] = _Entry(compute(), sources, identities)
        return entry.value


class CachingModule(nn.Module):
    """Module whose values can be reused inside a `cached` scope."""

    _scope_cache: ScopeCache | None = None

    @property
    def in_scope(self) -> bool:
        """Whether a `cached` scope is open for this module."""
        return self._scope_cache is not None

    def reuse(
        self,
        key: Hashable,
        compute: Callable[[], Value],
        *,
        sources: Iterable[Any] = (),
        tensor: Tensor | None = None,
    ) -> Value:
        """Return `compute()`, computed only once while a `cached` scope is open.

        Args:
            key: Name of the value.
            compute: Function without arguments that computes the value.
            sources: Tensors and other objects that the value is computed from. The value is
                computed again when one of them has been replaced.
            tensor: The tensor that the value belongs to; there is one value per key and tensor,
                which is dropped together with the tensor.
        """
        # Modes come first: compilers must not guard on whether a scope is open.
        if not runs_real_tensors() or torch.is_grad_enabled() or self.training:
            return compute()
        if self._scope_cache is None:
            return compute()
        return self._scope_cache.get(key, compute, sources, tensor)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_scope_cache"}


def _identity(source: Any) -> tuple[Any, ...]:
    if isinstance(source, Tensor):
        return id(source), source.device, source.dtype
    return (id(source),)
