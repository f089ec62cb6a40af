"""The tables of `harope inspect`."""

import textwrap
from collections.abc import Sequence

from torch import Tensor

from harope.lab.analysis.flops import ModelCosts
from harope.lab.analysis.inspection import Inspection
from harope.lab.reporting.tables import text_table

Rows = tuple[tuple[str, ...], ...]

MEANINGS = (
    "Minimum, median and maximum over the heads. Distances are Frobenius norms relative to that of "
    "the identity. from I: A to the identity. stretch: A to the nearest rotation Q. turn: Q to the "
    "identity. condition: largest over smallest singular value. axes, planes: fraction of A's "
    "squared entries between channels of different axes, or of different rotary planes."
)
"""Explanation of the columns of `head_rows`."""


def head_rows(inspection: Inspection) -> Rows:
    """Tabulate minimum, median and maximum over the heads of the measures of A, by layer.

    Args:
        inspection: Results of an analysis.

    Returns:
        Header and one row per layer; empty without a basis.
    """
    columns: dict[str, Tensor] = {}
    for side, numbers in inspection.matrices.items():
        prefix = "" if len(inspection.matrices) == 1 else f"{side}: "
        values = numbers.singular_values
        columns |= {
            f"{prefix}from I": numbers.from_identity,
            f"{prefix}stretch": numbers.from_rotation,
            f"{prefix}turn": numbers.turn,
            f"{prefix}condition": values[..., 0] / values[..., -1],
        }
        if numbers.axis_mixing is not None:
            columns[f"{prefix}axes"] = numbers.axis_mixing
        columns[f"{prefix}planes"] = numbers.plane_mixing
    return _layer_rows(columns, len(inspection.layers))


def distance_rows(inspection: Inspection) -> Rows:
    """Tabulate minimum, median and maximum over the heads of the mean attention distance.

    Args:
        inspection: Results of an analysis.

    Returns:
        Header and one row per layer, in tokens; empty if no attention was measured.
    """
    columns = {name: measured.distance for name, measured in inspection.attention.items()}
    return _layer_rows(columns, len(inspection.layers))


def _layer_rows(columns: dict[str, Tensor], layers: int) -> Rows:
    if not columns:
        return ()
    rows = [("layer", *columns)]
    for layer in range(layers):
        rows.append((str(layer), *(_spread(values[layer]) for values in columns.values())))
    return tuple(rows)


def cost_title(costs: ModelCosts) -> str:
    """Describe the input that costs refer to.

    Args:
        costs: Costs of a model.

    Returns:
        A phrase such as `One image of 64 tokens`.
    """
    text = f" and {costs.text} of text" if costs.text else ""
    return f"One image of {costs.tokens} tokens{text}"


def cost_rows(costs: ModelCosts) -> Rows:
    """Tabulate parameters, and multiply-adds on one image: first block, all blocks, model.

    Args:
        costs: Costs of a model, or of an encoding without its model.

    Returns:
        Header and one row per quantity; cells that are unknown without a model are empty.
    """
    rows: list[tuple[str, ...]] = [("", "block 0", f"all {len(costs.attention)}", "the model")]

    def add(name: str, blocks: Sequence[int], model: int | None = None) -> None:
        cells = (blocks[0], sum(blocks), model)
        rows.append((name, *("" if cell is None else f"{cell:,}" for cell in cells)))

    encoding, total = costs.encoding_parameters, costs.model_parameters
    if costs.attention_parameters is not None:
        rest = None if total is None else total - sum(encoding)
        add("parameters, no encoding or folded", costs.attention_parameters, rest)
    add("parameters of the encoding", encoding)
    plain, model = [block.plain for block in costs.attention], costs.model_multiply_adds
    add("multiply-adds, no basis or folded", plain, model)
    for where, extra in (
        ("tokens", [block.basis_on_tokens for block in costs.attention]),
        ("weights", [block.basis_on_weights for block in costs.attention]),
    ):
        if any(extra):
            both = [sum(pair) for pair in zip(plain, extra, strict=True)]
            add(f"multiply-adds, basis on the {where}", both, model and model + sum(extra))
    add("multiplications of the rotation", [block.rotation for block in costs.attention])
    return tuple(rows)


def change_rows(inspection: Inspection) -> Rows:
    """Tabulate |W - W_0| / |W_0| since the start of training, by layer and weight.

    Args:
        inspection: Results of an analysis.

    Returns:
        Header and one row per layer; empty if the initial weights are unknown.
    """
    if not inspection.change:
        return ()
    rows = [("layer", *inspection.change)]
    for layer in range(len(inspection.layers)):
        rows.append(
            (str(layer), *(f"{values[layer]:.2f}" for values in inspection.change.values()))
        )
    return tuple(rows)


def print_tables(inspection: Inspection) -> None:
    """Print the notes and all tables that are not empty.

    Args:
        inspection: Results of an analysis.
    """
    for note in inspection.notes:
        print(note)
    for title, rows in (
        (f"matrices. {MEANINGS}", head_rows(inspection)),
        ("mean attention distance, in tokens", distance_rows(inspection)),
        ("change of the weights since the start of training", change_rows(inspection)),
        (f"costs. {cost_title(inspection.costs)}", cost_rows(inspection.costs)),
    ):
        if rows:
            print(f"\n{textwrap.fill(title, 100)}\n\n{text_table(rows)}")


def _spread(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    # torch's median of an even number of values is the lower of the middle two.
    middle = float(values.quantile(0.5))
    return f"{low:.2f} {middle:.2f} {high:.2f}" if len(values) > 1 else f"{middle:.2f}"
