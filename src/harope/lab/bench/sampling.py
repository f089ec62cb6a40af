"""What a sampling loop computes again in every step."""

from collections import Counter
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from harope.lab.bench.step import StepConfig, inputs, make_model
from harope.models.dit import fold

# Operators that make tables and matrices; a model without encoding calls some of them as well.
TABLES = ("cos", "sin", "polar", "linalg_matrix_exp", "linalg_solve_ex", "bmm", "mm", "softplus")


def count_repeated_operators(encoding: str, config: StepConfig) -> int:
    """Operators on tables and matrices in the second step of a sampling loop.

    Counted beyond those of the same model without any encoding: times have cosines too.
    """
    counts = [_second_step(name, config) for name in (encoding, "none")]
    return sum((counts[0] - counts[1]).values())


def _second_step(encoding: str, config: StepConfig) -> Counter[str]:
    model = fold(make_model(encoding, config).eval())
    x, t, y = inputs(config)
    with torch.inference_mode():
        model(x, t, y)
        with _Counted() as counted:
            model(x, t, y)
    return counted.counts


class _Counted(TorchDispatchMode):
    """Calls of the operators that make tables and matrices."""

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
