"""`harope inspect`'s output: `heads.json`, pictures, and one page of all."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harope.lab.analysis.inspection import Inspection
from harope.lab.analysis.maps import draw_attention, draw_kernels, draw_scores
from harope.lab.analysis.plots import draw_distances, draw_similarity, draw_spectra
from harope.lab.analysis.receptive_fields import mean_distance
from harope.lab.analysis.tables import (
    MEANINGS,
    change_rows,
    cost_rows,
    cost_title,
    distance_rows,
    head_rows,
)
from harope.lab.reporting.html import Section, write_page


def write_heads(found: Inspection, out: Path) -> Path:
    """Write `heads.json`, pictures and `heads.html` into the folder; returns the page."""
    out.mkdir(parents=True, exist_ok=True)
    (out / "heads.json").write_text(json.dumps(_plain(found)) + "\n")
    sections = [_matrix_section(found, out), _field_section(found, out)]
    if found.attention:
        sections.append(_attention_section(found, out))
    if found.change:
        sections.append(_change_section(found, out))
    sections.append(
        Section(
            title="What the attention costs",
            text=(
                f"{cost_title(found.costs)}. The matrices themselves are made once "
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
        draw_spectra(numbers.singular_values, f"Singular values of A for {side}", path)
        pictures.append((f"Spectrum of A, {side}", path))
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
        draw_kernels(maps, path)
        text.append(
            "The encoding's kernel is trace(A_q^T R(offset) A_k) / head_dim, the mean score of a "
            "unit channel against itself at an offset (key minus query): exact, without data. "
            "Where A_q = A_k a rotation leaves it as it was; stretching does not."
        )
        pictures.append(("Kernel of the encoding: yellow, where scores stay highest", path))
    if found.scores is not None:
        path = out / "scores.png"
        title = "Score of two tokens alike, by their offset"
        draw_scores(found.scores, title, path)
        text.append(
            "With the projections: the mean score of two tokens of one content, white noise. Exact "
            "for the weights; what a model adds to them by its condition is left out."
        )
        pictures.append(("With the projections. Orange: attracted, purple: repelled", path))
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
        draw_attention(measured.maps, f"Mean attention, {name}", path)
        pictures.append((f"Attention by offset, {name}", path))
    path = out / "distances.png"
    distances = {name: measured.distance for name, measured in found.attention.items()}
    draw_distances(distances, uniform_distance(found), path)
    pictures.append(("Mean distance attended over", path))
    return Section(
        title="Receptive fields on real inputs",
        table=distance_rows(found),
        text=(
            "Mean attention probability at each offset over what uniform attention would pay. "
            "Noise 0 is an image, 1 pure noise. The table: the mean distance attended over, in "
            "tokens.",
        ),
        pictures=tuple(pictures),
        wide=True,
    )


def _change_section(found: Inspection, out: Path) -> Section:
    pictures = []
    if found.initial_scores is not None:
        path = out / "scores-before.png"
        title = "Score of two tokens alike, before training"
        draw_scores(found.initial_scores, title, path)
        pictures.append(("Before training, on a scale of its own", path))
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


def uniform_distance(found: Inspection) -> float:
    """Mean distance of all pairs of tokens: that of attention which pays all alike."""
    tokens = found.sizes[0] * found.sizes[1]
    return float(mean_distance(torch.ones(1, tokens, tokens), found.sizes))


def _distinct(maps: Tensor) -> Tensor:
    """One layer for all where none differs."""
    return maps[:1] if torch.allclose(maps, maps[:1].expand_as(maps)) else maps


def _plain(value: Any) -> Any:
    """Plain values for JSON, four digits."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
