"""Output files of `harope inspect`: `heads.json`, plots, and an HTML page that contains them."""

import dataclasses
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from harope._utils.atomic import write_json_atomic
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

_ALIKE = 0.5
"""Cosine from which two heads are said to have changed alike."""


def write_heads(inspection: Inspection, out: Path) -> Path:
    """Write `heads.json`, plots and `heads.html`.

    Args:
        inspection: Results to write.
        out: Folder, created if needed.

    Returns:
        The HTML page.
    """
    out.mkdir(parents=True, exist_ok=True)
    write_json_atomic(out / "heads.json", _plain(inspection), indent=None)
    sections = [_matrix_section(inspection, out), _field_section(inspection, out)]
    if inspection.attention:
        sections.append(_attention_section(inspection, out))
    if inspection.change:
        sections.append(_change_section(inspection, out))
    sections.append(
        Section(
            title="What the attention costs",
            text=(
                f"{cost_title(inspection.costs)}. The matrices themselves, which are computed once "
                "for many images, are not included. The attention is computed by formula; the "
                "model has the matrix products and convolutions that torch counts.",
            ),
            table=cost_rows(inspection.costs),
        )
    )
    height, width = inspection.sizes
    lead = (
        f"{conclusion(inspection)} {inspection.title}, {len(inspection.layers)} layers, {height} x "
        f"{width} tokens."
    )
    return write_page("What the heads learned", lead, sections, out / "heads.html")


def conclusion(inspection: Inspection) -> str:
    """Say in a few sentences how far matrices are from the identity, and how far heads look.

    Args:
        inspection: Results of an analysis.

    Returns:
        The sentences, for the top of a page.
    """
    sentences = _matrix_sentences(inspection) if inspection.matrices else []
    if inspection.attention:
        name = list(inspection.attention)[len(inspection.attention) // 2]
        distance = inspection.attention[name].distance.flatten()
        sentences.append(
            f"Heads attend over {float(distance.min()):.1f} to {float(distance.max()):.1f} tokens "
            f"({name}), where uniform attention has {uniform_distance(inspection):.1f}."
        )
    return " ".join(sentences)


def _matrix_sentences(inspection: Inspection) -> list[str]:
    """Say how far the matrices are from the identity, and whether heads changed alike."""
    largest = max(float(numbers.from_identity.max()) for numbers in inspection.matrices.values())
    if largest < 1e-6:
        return ["All matrices are the identity: the encoding does what RoPE does."]
    side, numbers = next(iter(inspection.matrices.items()))
    distance = numbers.from_identity.flatten()
    how = "a rotation" if numbers.turn.median() > numbers.from_rotation.median() else "stretching"
    sentences = [
        f"In the median head, A for {side} differs from the identity by "
        f"{_percent(distance.median())} of its norm ({_percent(distance.min())} to "
        f"{_percent(distance.max())} over all heads), mostly {how}."
    ]
    if inspection.cosines is not None and len(inspection.cosines) > 1:
        others = inspection.cosines[~torch.eye(len(inspection.cosines), dtype=torch.bool)]
        # A negative cosine is a change in the opposite direction.
        alike = float(others.max())
        sentences.append(
            f"No two heads changed alike: the largest cosine between their changes is {alike:.2f}."
            if alike < _ALIKE
            else f"Some heads changed alike: cosines between their changes reach {alike:.2f}."
        )
    return sentences


def _percent(value: Tensor) -> str:
    return f"{100 * float(value):.0f} %"


def _matrix_section(inspection: Inspection, out: Path) -> Section:
    images = []
    for side, numbers in inspection.matrices.items():
        path = out / f"spectrum-{side.replace(' ', '-')}.svg"
        draw_spectra(numbers.singular_values, f"Singular values of A for {side}", path)
        images.append((f"Spectrum of A, {side}", path))
    if inspection.cosines is not None:
        path = out / "similarity.svg"
        draw_similarity(inspection.cosines, inspection.plane_angles, len(inspection.layers), path)
        images.append(("Heads of all layers against each other", path))
    text = (*inspection.notes, MEANINGS) if inspection.matrices else tuple(inspection.notes)
    return Section(title="Matrices", text=text, table=head_rows(inspection), images=tuple(images))


def _field_section(inspection: Inspection, out: Path) -> Section:
    images, text = [], []
    if inspection.kernels is not None:
        maps, path = _distinct(inspection.kernels), out / "kernels.svg"
        draw_kernels(maps, path)
        text.append(
            "The encoding's kernel is trace(A_q^T R(offset) A_k) / head_dim, the mean score of a "
            "unit channel with itself at an offset (key minus query), exact and without data. If "
            "A_q = A_k, a rotation does not change it; stretching does."
        )
        images.append(("Kernel of the encoding: yellow, where scores stay highest", path))
    if inspection.scores is not None:
        path = out / "scores.svg"
        title = "Score of two tokens with the same content, by their offset"
        draw_scores(inspection.scores, title, path)
        text.append(
            "With the projections: the mean score of two tokens with the same white-noise content. "
            "It is exact for the weights, but leaves out the modulation by time and class."
        )
        images.append(("With the projections. Orange: attracted, purple: repelled", path))
    return Section(
        title="Receptive fields without data",
        text=tuple(text),
        images=tuple(images),
    )


def _attention_section(inspection: Inspection, out: Path) -> Section:
    images = []
    for name, measured in inspection.attention.items():
        path = out / f"attention-{name.replace(' ', '-')}.svg"
        draw_attention(measured.maps, f"Mean attention, {name}", path)
        images.append((f"Attention by offset, {name}", path))
    path = out / "distances.svg"
    distances = {name: measured.distance for name, measured in inspection.attention.items()}
    draw_distances(distances, uniform_distance(inspection), path)
    images.append(("Mean attention distance", path))
    return Section(
        title="Receptive fields on real inputs",
        table=distance_rows(inspection),
        text=(
            "Mean attention probability at each offset relative to uniform attention. Noise 0 is "
            "an image, 1 pure noise. The table shows the mean attention distance in tokens.",
        ),
        images=tuple(images),
    )


def _change_section(inspection: Inspection, out: Path) -> Section:
    images = []
    if inspection.initial_scores is not None:
        path = out / "scores-before.svg"
        title = "Score of two tokens with the same content, before training"
        draw_scores(inspection.initial_scores, title, path)
        images.append(("Before training, with its own colour scale", path))
    return Section(
        title="Since the start of the training",
        text=(
            "The checkpoint compared with the initial weights of the run's seed: norm of the "
            "difference over the norm at the start.",
        ),
        table=change_rows(inspection),
        images=tuple(images),
    )


def uniform_distance(inspection: Inspection) -> float:
    """Compute the mean distance of all pairs of tokens, which uniform attention has.

    Args:
        inspection: Results, whose grid of tokens counts.

    Returns:
        Distance in tokens.
    """
    tokens = inspection.sizes[0] * inspection.sizes[1]
    return float(mean_distance(torch.ones(1, tokens, tokens), inspection.sizes))


def _distinct(maps: Tensor) -> Tensor:
    """Reduce equal layers to one."""
    return maps[:1] if torch.allclose(maps, maps[:1].expand_as(maps)) else maps


def _plain(value: Any) -> Any:
    """Convert results to JSON values, with four significant digits."""
    if isinstance(value, Tensor):
        return _plain(value.tolist())
    if dataclasses.is_dataclass(value):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, dict):
        return {key: _plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return float(f"{value:.4g}") if isinstance(value, float) else value
