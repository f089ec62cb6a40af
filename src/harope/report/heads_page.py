"""`harope inspect`'s output: tables, `heads.json`, pictures, and one page of all."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harope.report.costs import Costs
from harope.report.heads import (
    draw_attention_maps,
    draw_distances,
    draw_signed_maps,
    draw_similarity,
    draw_spectra,
)
from harope.report.inspection import Inspection
from harope.report.page import Section, write_page

Rows = tuple[tuple[str, ...], ...]

MEANINGS = (
    "Least, median and largest value over the heads. Distances are Frobenius norms over that of "
    "the identity. from I: of A from the identity. stretch: of A from the nearest rotation Q. "
    "turn: of Q from the identity. condition: largest over smallest singular value. axes, planes: "
    "share of A's squared entries between channels of different axes, of different rotary planes."
)


def head_rows(found: Inspection) -> Rows:
    """Per layer: least, median and largest value over the heads."""
    columns: dict[str, Tensor] = {}
    for side, numbers in found.matrices.items():
        prefix = "" if len(found.matrices) == 1 else f"{side}: "
        values = numbers.singular_values
        columns |= {
            f"{prefix}from I": numbers.from_identity,
            f"{prefix}stretch": numbers.from_rotation,
            f"{prefix}turn": numbers.turn,
            f"{prefix}condition": values[..., 0] / values[..., -1],
            f"{prefix}planes": numbers.plane_mixing,
        }
        if numbers.axis_mixing is not None:
            columns[f"{prefix}axes"] = numbers.axis_mixing
    for name, measured in found.attention.items():
        columns[f"distance, {name}"] = measured.distance
    if not columns:
        return ()
    rows = [("layer", *columns)]
    for layer in range(len(found.layers)):
        rows.append((str(layer), *(_spread(values[layer]) for values in columns.values())))
    return tuple(rows)


def cost_rows(costs: Costs) -> Rows:
    """Parameters and multiply-adds of one image, per block, of all blocks, of the model."""
    attention, blocks = costs.attention, costs.blocks
    rows = [("", "a block", f"all {blocks}", "the model")]

    def add(name: str, block: int | None, model: int | None = None) -> None:
        cells = (block, block and block * blocks, model)
        rows.append((name, *("" if cell is None else f"{cell:,}" for cell in cells)))

    plain_parameters = costs.attention_parameters
    add(
        "parameters, without the encoding",
        plain_parameters,
        costs.model_parameters and costs.model_parameters - blocks * costs.encoding_parameters,
    )
    add("parameters of the encoding", costs.encoding_parameters)
    add("multiply-adds, no basis or folded", attention.plain, costs.model_multiply_adds)
    whole = costs.model_multiply_adds
    for name, extra in (
        ("tokens", attention.basis_on_tokens),
        ("weights", attention.basis_on_weights),
    ):
        if extra:
            total = whole and whole + blocks * extra
            add(f"multiply-adds, basis on the {name}", attention.plain + extra, total)
    add("multiplications of the rotation, besides", attention.rotation)
    return tuple(rows)


def change_rows(found: Inspection) -> Rows:
    """|W - W_0| / |W_0| since the start of the training."""
    rows = [("layer", *found.change)]
    for layer in range(len(found.layers)):
        rows.append((str(layer), *(f"{values[layer]:.2f}" for values in found.change.values())))
    return tuple(rows)


def write_heads(found: Inspection, out: Path) -> Path:
    """Write `heads.json`, pictures and `heads.html` into the folder; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "heads.json").write_text(json.dumps(_plain(found), indent=1) + "\n")
    sections = [_matrix_section(found, out), _field_section(found, out)]
    if found.attention:
        sections.append(_attention_section(found, out))
    if found.change:
        sections.append(_change_section(found, out))
    sections.append(
        Section(
            title="What the attention costs",
            text=(
                f"One image of {found.costs.tokens} tokens. The matrices themselves are made once "
                "and kept while nothing trains. Attention by formula; the model as torch counts "
                "its matrix products and convolutions.",
            ),
            table=cost_rows(found.costs),
        )
    )
    lead = f"{found.title}, {len(found.layers)} layers, {found.sizes[0]} x {found.sizes[1]} tokens."
    return write_page("What the heads learned", lead, sections, out / "heads.html")


def _matrix_section(found: Inspection, out: Path) -> Section:
    pictures = []
    for side, numbers in found.matrices.items():
        path = out / f"spectrum-{side.replace(' ', '-')}.png"
        draw_spectra(numbers.singular_values, f"Singular values of A, {side}: a line a head", path)
        pictures.append((f"Singular values, {side}; dashed: the identity", path))
    if found.cosines is not None:
        path = out / "similarity.png"
        draw_similarity(found.cosines, found.plane_angles, len(found.layers), path)
        pictures.append(("Heads of all layers against each other", path))
    text = (*found.notes, MEANINGS) if found.matrices else tuple(found.notes)
    return Section(
        title="Matrices", text=text, table=head_rows(found), pictures=tuple(pictures), wide=True
    )


def _field_section(found: Inspection, out: Path) -> Section:
    pictures, text = [], []
    if found.kernels is not None:
        maps, path = _distinct(found.kernels), out / "kernels.png"
        draw_signed_maps(maps, "The encoding's kernel", "mean score", path)
        text.append(
            "The encoding's kernel is trace(A_q^T R(offset) A_k) / head_dim, the mean score of a "
            "unit channel against itself at an offset (key minus query): exact, without data. A "
            "rotation of queries and keys alike leaves it as it was; stretching does not."
        )
        pictures.append(("Middle: offset 0; down: dy, right: dx, in tokens", path))
    if found.scores is not None:
        path = out / "scores.png"
        title = "Score of two tokens alike, by their offset"
        draw_signed_maps(found.scores, title, "mean score, as softmax sees it", path)
        text.append(
            "With the projections: the mean score of two tokens of one content, white noise. Exact "
            "for the weights; what a model adds to them by its condition is left out."
        )
        pictures.append(("Orange: attracted at this offset; purple: repelled", path))
    return Section(
        title="Receptive fields without data",
        text=tuple(text),
        pictures=tuple(pictures),
        wide=True,
    )


def _attention_section(found: Inspection, out: Path) -> Section:
    pictures = []
    for name, measured in found.attention.items():
        path = out / f"attention-{name.replace(' ', '-')}.png"
        draw_attention_maps(measured.maps, f"Mean attention, {name}", path)
        pictures.append((f"Attention by offset, {name}", path))
    path = out / "distances.png"
    draw_distances({name: measured.distance for name, measured in found.attention.items()}, path)
    pictures.append(("Mean distance attended over", path))
    return Section(
        title="Receptive fields on real inputs",
        text=(
            "Mean attention probability at each offset over what uniform attention would pay. "
            "Noise 0 is an image, 1 pure noise.",
        ),
        pictures=tuple(pictures),
        wide=True,
    )


def _change_section(found: Inspection, out: Path) -> Section:
    pictures = []
    if found.initial_scores is not None:
        path = out / "scores-before.png"
        title = "The same before training: another scale"
        draw_signed_maps(found.initial_scores, title, "mean score", path)
        pictures.append(("Score of two tokens alike, before training", path))
    return Section(
        title="Since the start of the training",
        text=(
            "The weights that the run's seed drew, against the checkpoint: norm of the difference "
            "over the norm at the start.",
        ),
        table=change_rows(found),
        pictures=tuple(pictures),
        wide=True,
    )


def _distinct(maps: Tensor) -> Tensor:
    """One layer for all where none differs."""
    return maps[:1] if torch.allclose(maps, maps[:1].expand_as(maps)) else maps


def _spread(values: Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    # quantile, for torch's median of an even number is the lower one.
    middle = float(values.quantile(0.5))
    return f"{low:.2f} {middle:.2f} {high:.2f}" if len(values) > 1 else f"{middle:.2f}"


def _plain(value: Any) -> Any:
    """Plain values for JSON, six digits."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return float(f"{value:.6g}") if isinstance(value, float) else value
