"""The matrices of many layers at once: one exponential a step, not two a layer."""

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from harope.rope.basis import Generated, MatrixPair
from harope.rope.encoding import PositionalEncoding, RotaryEncoding
from harope.rope.orthogonal import orthogonal_from_entries


def batched_matrices(encodings: Sequence[PositionalEncoding]) -> list[MatrixPair | None]:
    """`matrices()` of every encoding, alike generators through one exponential or Cayley solve.

    None stands for an encoding that must be asked itself: it has no matrices, or its parameters
    are sharded and whole only inside its own layer (FSDP). Without gradient every encoding keeps
    its matrices from call to call, so that there is nothing to batch.
    """
    found: list[MatrixPair | None] = [None] * len(encodings)
    if not torch.is_grad_enabled():
        return found
    groups = defaultdict(list)
    for place, encoding in enumerate(encodings):
        basis = encoding.basis if isinstance(encoding, RotaryEncoding) else None
        if isinstance(basis, Generated) and all(map(_is_whole, basis.parameters())):
            parameter = next(basis.parameters())
            kind = (basis.head_dim, basis.orthogonal_map, parameter.dtype, parameter.device)
            groups[kind].append((place, basis))
    for (head_dim, orthogonal_map, _, _), members in groups.items():
        entries = [basis.entries() for _, basis in members]
        rotations = orthogonal_from_entries(torch.cat(entries), head_dim, orthogonal_map)
        parts = rotations.split([len(own) for own in entries])
        for (place, basis), part in zip(members, parts, strict=True):
            found[place] = basis.assemble(part)
    return found


def _is_whole(parameter: Tensor) -> bool:
    """Not a DTensor, nor the flat piece of a parameter that FSDP leaves on each process."""
    return type(parameter) in (Tensor, nn.Parameter) and parameter.ndim == 2
