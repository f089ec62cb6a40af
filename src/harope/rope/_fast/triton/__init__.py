"""Triton kernels for NVIDIA and AMD GPUs, as custom operators of torch.

They are imported at the first use on a GPU. Elsewhere, and under compilers, plain torch computes
the same (`harope.rope._fast.dispatch`).
"""

from harope.rope._fast.triton.qk_norm import normed_qk
from harope.rope._fast.triton.rotate import rotate_one, rotate_qk

__all__ = ["normed_qk", "rotate_one", "rotate_qk"]
