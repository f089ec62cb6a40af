"""One thread, as the tensors are small and tests may run side by side."""

import os
from collections.abc import Iterator

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)

# Kernels run in Triton's interpreter, on the CPU; Triton reads this when it is first imported.
os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def annotations_unchecked() -> Iterator[None]:
    """Run as users do, without the checks of annotations that would catch bad arguments first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
