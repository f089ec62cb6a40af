"""Matrices of many layers by one exponential per forward, instead of two per layer."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harope.rope.basis import GeneratorBasis, MatrixPair
from harope.rope.encoding import PositionalEncoding, RotaryEncoding
from harope.rope.orthogonal import orthogonal_from_entries


def batched_matrices(encodings: Sequence[PositionalEncoding]) -> list[MatrixPair | None]:
    """Compute `matrices()` of every encoding, with one exponential or Cayley solve per kind.

    Args:
        encodings: Those of all layers.

    Returns:
        One entry per encoding. It is None if the layer must call `matrices()` itself: if the
        encoding has no generators, if its parameters are sharded, so that they are complete only
        inside the layer's own forward (FSDP), and for all encodings if gradients are disabled.
    """
    result: list[MatrixPair | None] = [None] * len(encodings)
    if not torch.is_grad_enabled():
        # Layers compute the same bits with and without a `cached` scope this way.
        return result
    groups = defaultdict(list)
    for index, encoding in enumerate(encodings):
        basis = encoding.basis if isinstance(encoding, RotaryEncoding) else None
        if isinstance(basis, GeneratorBasis) and all(map(_is_unsharded, basis.parameters())):
            parameter = next(basis.parameters())
            kind = (basis.head_dim, basis.orthogonal_map, parameter.dtype, parameter.device)
            groups[kind].append((index, basis))
    for (head_dim, orthogonal_map, _, _), members in groups.items():
        entries = [basis.entries() for _, basis in members]
        rotations = orthogonal_from_entries(torch.cat(entries), head_dim, orthogonal_map)
        parts = rotations.split([len(part) for part in entries])
        for (index, basis), part in zip(members, parts, strict=True):
            result[index] = basis.assemble(part)
    return result


def _is_unsharded(parameter: Tensor) -> bool:
    """Return whether it is neither a DTensor (FSDP2) nor a piece of a flat parameter (FSDP1)."""
    return type(parameter) in (Tensor, nn.Parameter) and parameter.ndim == 2
