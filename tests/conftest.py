"""One thread, as the tensors are small and tests may run side by side; and which tests are slow."""

import os
from collections.abc import Iterator
from pathlib import Path

import jaxtyping
import pytest
import torch

torch.set_num_threads(1)

# Kernels run in Triton's interpreter, on the CPU; Triton reads this when it is first imported.
os.environ["TRITON_INTERPRET"] = "1"

TESTS = Path(__file__).parent

SLOW = (
    "golden",
    "integration",
    "parity",
    "properties",
    "unit/benchmarks",
    "unit/docs/test_snippets.py",
    "unit/lab/bench",
    "unit/lab/experiments",
    "unit/models/test_compile.py",
)
"""Folders and files that train, start processes, compile or load large libraries; single tests
elsewhere have `@pytest.mark.slow`."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark each test slow by where it is, and fast if it is neither slow nor gpu."""
    for item in items:
        path = item.path.relative_to(TESTS)
        if any(path.is_relative_to(place) for place in SLOW):
            item.add_marker(pytest.mark.slow)
        if item.get_closest_marker("gpu") is not None and not torch.cuda.is_available():
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))
        if not {"slow", "gpu"} & {marker.name for marker in item.iter_markers()}:
            item.add_marker(pytest.mark.fast)


@pytest.fixture
def annotations_unchecked() -> Iterator[None]:
    """Run as users do, without the checks of annotations that would catch bad arguments first."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
