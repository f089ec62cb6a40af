"""Kernels run in Triton's interpreter, on the CPU."""

import os

# Read when a kernel is defined, so before the first import of harope.rope.kernels.
os.environ["TRITON_INTERPRET"] = "1"
