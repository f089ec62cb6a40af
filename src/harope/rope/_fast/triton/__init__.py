"""Triton kernels for NVIDIA and AMD GPUs, as custom operators of torch.

Loaded at the first tensor on a GPU; everything they compute is also written as plain torch
(`harope.rope.rotate`, `harope.rope._fast.qk_norm`), which is what runs elsewhere and under
compilers.
"""

from harope.rope._fast.triton.ops import normed_qk, rotate_qk

__all__ = ["normed_qk", "rotate_qk"]
