"""Operators that a sampling loop repeats in every step although their inputs do not change."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harope.lab.bench.step import StepConfig, inputs, make_model
from harope.models.dit import fold
from harope.rope import cached

TABLES = ("cos", "sin", "polar", "linalg_matrix_exp", "linalg_solve_ex", "bmm", "mm", "softplus")
"""Operators that compute rotation tables and matrices; a model without an encoding calls some of
them as well."""


def count_repeated_operators(encoding: str, config: StepConfig) -> int:
    """Count the operators on tables and matrices in the second step of a sampling loop.

    Those of the same model without an encoding are subtracted, since the timestep embedding
    computes cosines too.

    Args:
        encoding: Name of the encoding, see `make_model`.
        config: Size of the model and of its input.

    Returns:
        Number of operators; negative if the model without an encoding calls more.
    """
    counts = [_second_step(name, config) for name in (encoding, "none")]
    return sum((counts[0] - counts[1]).values())


def _second_step(encoding: str, config: StepConfig) -> Counter[str]:
    model = fold(make_model(encoding, config).eval())
    x, t, y = inputs(config)
    with torch.inference_mode(), cached(model):
        model(x, t, y)
        with _TableOperators() as operators:
            model(x, t, y)
    return operators.counts


class _TableOperators(TorchDispatchMode):
    """Counter of the calls of `TABLES`."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func.name().partition("::")[2].partition(".")[0]
        if name in TABLES:
            self.counts[name] += 1
        return func(*args, **(kwargs or {}))
