"""Rotation of queries by harope and by other libraries (peers), on the same input."""

from collections.abc import Callable
from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor

from harope.lab.bench.timing import Workload
from harope.rope import rotate

KERNEL = "harope, Triton kernel"
"""Name of the rotation of `kernel_rotations`."""

Queries = Float[Tensor, "batch heads tokens head_dim"]
Angles = Float[Tensor, "tokens pairs"]


def eager_rotations(x: Queries, angles: Angles) -> dict[str, Workload]:
    """Return harope's eager rotations, and a copy of the input as their lower bound.

    Args:
        x: Queries.
        angles: Rotation angles of each token.

    Returns:
        Workloads by name: `copy`, `harope` (interleaved layout) and `harope, half`.
    """
    cos, sin = angles.cos(), angles.sin()
    copy = torch.empty_like(x)
    return {
        "copy": lambda: copy.copy_(x),
        "harope": lambda: rotate(x, cos, sin),
        "harope, half": lambda: rotate(x, cos, sin, "half"),
    }


def compiled_rotations(x: Queries, angles: Angles) -> dict[str, Workload]:
    """Return harope's rotations compiled by `torch.compile`.

    Args:
        x: Queries.
        angles: Rotation angles of each token.

    Returns:
        Workloads by name, those of `eager_rotations` followed by `, compiled`.
    """
    cos, sin = angles.cos(), angles.sin()
    compiled = torch.compile(rotate, fullgraph=True, dynamic=False)
    return {
        "harope, compiled": lambda: compiled(x, cos, sin),
        "harope, half, compiled": lambda: compiled(x, cos, sin, "half"),
    }


def kernel_rotations(x: Queries, angles: Angles) -> dict[str, Workload]:
    """Return the rotation of harope's Triton kernel, which needs a GPU.

    The kernel rotates queries and keys at once; here they are the two halves of the batch.

    Args:
        x: Queries of an even number of samples.
        angles: Rotation angles of each token.

    Returns:
        Workload by name; empty on the CPU.
    """
    if not x.is_cuda:
        return {}
    from harope.rope._fast.triton import rotate_qk

    (q, k), cos, sin = x.chunk(2), angles.cos(), angles.sin()
    return {KERNEL: lambda: rotate_qk(q, k, cos, sin, interleaved=True)}


def peer_rotations(x: Queries, angles: Angles) -> dict[str, Workload]:
    """Return the real-valued rotations of the installed peers, with precomputed tables.

    Args:
        x: Queries.
        angles: Rotation angles of each token.

    Returns:
        Workloads by name of the library; those with kernels only on a GPU.
    """
    peers = PEERS | GPU_PEERS if x.is_cuda else PEERS
    return {name: make(x, angles) for name, (package, make) in peers.items() if find_spec(package)}


def complex_rotations(x: Queries, angles: Angles) -> dict[str, Workload]:
    """Return diffusers' rotation in complex numbers, if diffusers is installed.

    It rotates tensors of shape (batch, tokens, heads, head_dim) and only supports float32.

    Args:
        x: Queries.
        angles: Rotation angles of each token.

    Returns:
        Workload by name.
    """
    if not find_spec("diffusers"):
        return {}
    from diffusers.models.embeddings import apply_rotary_emb

    tokens_first = x.transpose(1, 2).contiguous()
    table = torch.polar(torch.ones_like(angles), angles)[None]
    return {"diffusers, complex": lambda: apply_rotary_emb(tokens_first, table, use_real=False)}


def _timm(x: Tensor, angles: Tensor) -> Workload:
    from timm.layers import apply_rot_embed_cat

    table = torch.cat([_twice(angles.sin()), _twice(angles.cos())], dim=-1)
    return lambda: apply_rot_embed_cat(x, table)


def _diffusers(x: Tensor, angles: Tensor) -> Workload:
    from diffusers.models.embeddings import apply_rotary_emb

    table = _twice(angles.cos()), _twice(angles.sin())
    return lambda: apply_rotary_emb(x, table)


def _transformers(x: Tensor, angles: Tensor) -> Workload:
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    cos, sin = (torch.cat([part, part], dim=-1)[None] for part in (angles.cos(), angles.sin()))
    # The function also rotates keys; pass none.
    return lambda: apply_rotary_pos_emb(x, x[:0], cos, sin)


def _rotary_embedding_torch(x: Tensor, angles: Tensor) -> Workload:
    from rotary_embedding_torch import apply_rotary_emb

    table = _twice(angles)
    return lambda: apply_rotary_emb(table, x)


def _x_transformers(x: Tensor, angles: Tensor) -> Workload:
    from x_transformers.x_transformers import apply_rotary_pos_emb

    table = _twice(angles)[None]
    return lambda: apply_rotary_pos_emb(x, table)


def _flash_attn(x: Tensor, angles: Tensor) -> Workload:
    from flash_attn.layers.rotary import apply_rotary_emb

    tokens_first, cos, sin = x.transpose(1, 2).contiguous(), angles.cos(), angles.sin()
    return lambda: apply_rotary_emb(tokens_first, cos, sin, interleaved=True)


def _liger_kernel(x: Tensor, angles: Tensor) -> Workload:
    from liger_kernel.transformers.rope import liger_rotary_pos_emb

    cos, sin = (torch.cat([part, part], dim=-1)[None] for part in (angles.cos(), angles.sin()))
    # The function rotates queries and keys in place, and needs at least one head of keys.
    query = x.transpose(1, 2).contiguous().transpose(1, 2)
    key = query[:, :1].clone()
    return lambda: liger_rotary_pos_emb(query, key, cos, sin)


def _twice(values: Tensor) -> Tensor:
    return values.repeat_interleave(2, dim=-1)


PEERS: dict[str, tuple[str, Callable[[Tensor, Tensor], Workload]]] = {
    "timm": ("timm", _timm),
    "diffusers": ("diffusers", _diffusers),
    "transformers": ("transformers", _transformers),
    "rotary-embedding-torch": ("rotary_embedding_torch", _rotary_embedding_torch),
    "x-transformers": ("x_transformers", _x_transformers),
}
"""By name: the package, and a function that creates the workload."""

GPU_PEERS: dict[str, tuple[str, Callable[[Tensor, Tensor], Workload]]] = {
    "flash-attn": ("flash_attn", _flash_attn),
    "liger-kernel": ("liger_kernel", _liger_kernel),
}
"""Peers whose kernels need a GPU."""
