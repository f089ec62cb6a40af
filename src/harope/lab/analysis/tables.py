"""The tables of `harope inspect`."""

import textwrap
from collections.abc import Sequence

from torch import Tensor

from harope.lab.analysis.flops import ModelCosts
from harope.lab.analysis.inspection import Inspection
from harope.lab.reporting.tables import text_table

Rows = tuple[tuple[str, ...], ...]

MEANINGS = (
    "Least, median and largest value over the heads. Distances are Frobenius norms over that of "
    "the identity. from I: of A from the identity. stretch: of A from the nearest rotation Q. "
    "turn: of Q from the identity. condition: largest over smallest singular value. axes, planes: "
    "share of A's squared entries between channels of different axes, of different rotary planes."
)


def head_rows(found: Inspection) -> Rows:
    """Per layer: least, median and largest value over the heads, of what A does."""
    columns: dict[str, Tensor] = {}
    for side, numbers in found.matrices.items():
        prefix = "" if len(found.matrices) == 1 else f"{side}: "
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
    return _layer_rows(columns, len(found.layers))


def distance_rows(found: Inspection) -> Rows:
    """The same of the mean distance attended over, in tokens, by input."""
    columns = {name: measured.distance for name, measured in found.attention.items()}
    return _layer_rows(columns, len(found.layers))


def _layer_rows(columns: dict[str, Tensor], layers: int) -> Rows:
    if not columns:
        return ()
    rows = [("layer", *columns)]
    for layer in range(layers):
        rows.append((str(layer), *(_spread(values[layer]) for values in columns.values())))
    return tuple(rows)


def cost_title(costs: ModelCosts) -> str:
    """What the costs are of."""
    text = f" and {costs.text} of text" if costs.text else ""
    return f"One image of {costs.tokens} tokens{text}"


def cost_rows(costs: ModelCosts) -> Rows:
    """Parameters and multiply-adds of one image, of the first block, of all, of the model."""
    rows: list[tuple[str, ...]] = [("", "block 0", f"all {len(costs.attention)}", "the model")]

    def add(name: str, blocks: Sequence[int], model: int | None = None) -> None:
        cells = (blocks[0], sum(blocks), model)
        rows.append((name, *("" if cell is None else f"{cell:,}" for cell in cells)))

    own, whole = costs.encoding_parameters, costs.model_parameters
    if costs.attention_parameters is not None:
        rest = None if whole is None else whole - sum(own)
        add("parameters, no encoding or folded", costs.attention_parameters, rest)
    add("parameters of the encoding", own)
    plain, model = [one.plain for one in costs.attention], costs.model_multiply_adds
    add("multiply-adds, no basis or folded", plain, model)
    for where, extra in (
        ("tokens", [one.basis_on_tokens for one in costs.attention]),
        ("weights", [one.basis_on_weights for one in costs.attention]),
    ):
        if any(extra):
            both = [sum(pair) for pair in zip(plain, extra, strict=True)]
            add(f"multiply-adds, basis on the {where}", both, model and model + sum(extra))
    add("multiplications of the rotation, besides", [one.rotation for one in costs.attention])
    return tuple(rows)


def change_rows(found: Inspection) -> Rows:
    """|W - W_0| / |W_0| since the start of the training."""
    if not found.change:
        return ()
    rows = [("layer", *found.change)]
    for layer in range(len(found.layers)):
        rows.append((str(layer), *(f"{values[layer]:.2f}" for values in found.change.values())))
    return tuple(rows)


def print_tables(found: Inspection) -> None:
    """Notes, and every table that there is."""
    for note in found.notes:
        print(note)
    for title, rows in (
        (f"matrices. {MEANINGS}", head_rows(found)),
        ("mean distance attended over, in tokens", distance_rows(found)),
        ("change of the weights since the start", change_rows(found)),
        (f"costs. {cost_title(found.costs)}", cost_rows(found.costs)),
    ):
        if rows:
            print(f"\n{textwrap.fill(title, 100)}\n\n{text_table(rows)}")


def _spread(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    # quantile, for torch's median of an even number is the lower one.
    middle = float(values.quantile(0.5))
    return f"{low:.2f} {middle:.2f} {high:.2f}" if len(values) > 1 else f"{middle:.2f}"
