"""The numbers of `harope inspect`: all that is found of a subject."""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope.lab.analysis.attention import AttentionStatistics, measure_attention
from harope.lab.analysis.flops import ModelCosts, count_costs
from harope.lab.analysis.inspected_model import InspectedModel, Layer
from harope.lab.analysis.matrices import (
    axis_groups,
    deviation_cosines,
    identity_distance,
    lowest_frequency_channels,
    mixing,
    plane_angles,
    plane_groups,
    rotation_distance,
    singular_values,
    turn,
)
from harope.lab.analysis.receptive_fields import Grid, encoding_kernel, kernel_maps, wave_vectors
from harope.rope import RotaryEncoding
from harope.rope.basis import MatrixPair

LayerMaps = Float[Tensor, "layers heads rows columns"]


@dataclass(frozen=True, kw_only=True)
class MatrixStatistics:
    """Of A_q or A_k in every head; one "head" where all heads of a layer share a matrix."""

    singular_values: Float[Tensor, "layers heads head_dim"]
    """The largest first."""
    from_identity: Float[Tensor, "layers heads"]
    """|A - I| / |I|."""
    from_rotation: Float[Tensor, "layers heads"]
    """|A - Q| / |I| with Q the nearest rotation."""
    turn: Float[Tensor, "layers heads"]
    """|Q - I| / |I|."""
    plane_mixing: Float[Tensor, "layers heads"]
    """Share of squared entries between rotary planes."""
    axis_mixing: Float[Tensor, "layers heads"] | None
    """Share of squared entries between channels of different axes; None where pairs have none."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """All that was found; what a subject does not have is None."""

    title: str
    layers: list[str]
    sizes: Grid
    matrices: dict[str, MatrixStatistics]
    """By side, "q" and "k", or "q and k" where both are one; empty without a basis."""
    cosines: Float[Tensor, "all_heads all_heads"] | None
    """Of A_q - I, heads of all layers in order."""
    plane_angles: Float[Tensor, "all_heads all_heads"] | None
    """Mean principal angles of what feeds the slowest planes, in degrees."""
    kernels: Float[Tensor, "layers _ rows columns"] | None
    """Of the encodings alone; one map a layer where its heads do not differ."""
    scores: LayerMaps | None
    """Of the projections with the encodings: the score of two tokens of one white content."""
    initial_scores: LayerMaps | None
    """The same before the training."""
    change: dict[str, list[float]]
    """|W - W_0| / |W_0| by weight and layer since the start of the training."""
    attention: dict[str, AttentionStatistics]
    """By the inputs it was measured on."""
    costs: ModelCosts
    notes: list[str] = field(default_factory=list)
    """Why something is not there."""


@torch.no_grad()
def inspect_model(subject: InspectedModel, *, num_images: int) -> Inspection:
    """All numbers; attention on `num_images` images of the run's data, 0 for none."""
    pairs = [layer.encoding.matrices() for layer in subject.layers]
    kept = [pair for pair in pairs if pair is not None]
    vectors, initial = _vectors(subject), subject.initial()
    cosines, angles = _similarity(subject, kept, vectors)
    scores, notes = _scores(subject, vectors), _notes(subject, initial, kept, vectors)
    return Inspection(
        title=subject.title,
        layers=[layer.name for layer in subject.layers],
        sizes=subject.sizes,
        matrices=_matrix_numbers(subject, kept, vectors),
        cosines=cosines,
        plane_angles=angles,
        kernels=_kernels(subject, vectors),
        scores=scores,
        initial_scores=None if initial is None else _scores(initial, _vectors(initial)),
        change=_change(subject, initial),
        attention=_attention(subject, num_images, notes),
        costs=count_costs(subject),
        notes=notes,
    )


def _notes(
    subject: InspectedModel,
    initial: InspectedModel | None,
    pairs: list[MatrixPair],
    vectors: list[Tensor] | None,
) -> list[str]:
    """What is not there, and why."""
    alone, unknown = subject.model is None, subject.train is None
    absent = {
        "An encoding without its model: no scores of heads, no attention on pictures, no change of "
        "weights. ModelCosts are those of an attention with bare projections, and without text.": alone,
        "The encoding has no matrices: heads differ by their projections alone.": not pairs,
        "The encoding rotates nothing of its own: there is no kernel of the offset.": not vectors,
        "Queries and keys pass a norm: no scores of heads, and matrices cannot be folded.": (
            not alone and subject.layers[0].projections is None
        ),
        "The training is not known: no attention on pictures, no change of weights.": (
            not alone and unknown
        ),
        "What the training started from is not at hand: no change of weights.": (
            not unknown and initial is None
        ),
    }
    return [note for note, holds in absent.items() if holds]


def _vectors(subject: InspectedModel) -> list[Tensor] | None:
    """Wave vectors of every layer; None where nothing rotates."""
    found = []
    for layer in subject.layers:
        encoding = layer.encoding
        if not isinstance(encoding, RotaryEncoding) or encoding.frequencies is None:
            return None
        found.append(wave_vectors(encoding.frequencies, encoding.num_axes, subject.sizes))
    return found


def _rotary(layer: Layer) -> RotaryEncoding:
    assert isinstance(layer.encoding, RotaryEncoding)
    return layer.encoding


def _matrix_numbers(
    subject: InspectedModel, pairs: list[MatrixPair], vectors: list[Tensor] | None
) -> dict[str, MatrixStatistics]:
    if not pairs:
        return {}
    queries, keys = (torch.stack(side) for side in zip(*pairs, strict=True))
    if torch.equal(queries, keys):
        return {"q and k": _numbers(subject, queries, vectors)}
    return {"q": _numbers(subject, queries, vectors), "k": _numbers(subject, keys, vectors)}


def _numbers(
    subject: InspectedModel, matrices: Tensor, vectors: list[Tensor] | None
) -> MatrixStatistics:
    first = _rotary(subject.layers[0])
    planes = plane_groups(first.head_dim, first.layout)
    axes = None if vectors is None else axis_groups(vectors[0], first.layout)
    return MatrixStatistics(
        singular_values=singular_values(matrices),
        from_identity=identity_distance(matrices),
        from_rotation=rotation_distance(matrices),
        turn=turn(matrices),
        plane_mixing=mixing(matrices, planes),
        axis_mixing=None if axes is None else mixing(matrices, axes),
    )


def _similarity(
    subject: InspectedModel, pairs: list[MatrixPair], vectors: list[Tensor] | None
) -> tuple[Tensor | None, Tensor | None]:
    if not pairs:
        return None, None
    queries = torch.cat([pair[0] for pair in pairs])
    cosines = deviation_cosines(queries)
    if vectors is None:
        return cosines, None
    channels = lowest_frequency_channels(vectors[0], _rotary(subject.layers[0]).layout)
    return cosines, plane_angles(queries, channels)


def _kernels(subject: InspectedModel, vectors: list[Tensor] | None) -> LayerMaps | None:
    if vectors is None:
        return None
    maps = []
    for layer, own in zip(subject.layers, vectors, strict=True):
        encoding = _rotary(layer)
        pair = encoding.matrices()
        maps.append(encoding_kernel(pair, encoding.head_dim, own, subject.sizes, encoding.layout))
    return torch.stack(maps)


def _scores(subject: InspectedModel, vectors: list[Tensor] | None) -> LayerMaps | None:
    if vectors is None:
        return None
    maps = []
    for layer, own in zip(subject.layers, vectors, strict=True):
        if layer.projections is None:
            return None
        encoding = _rotary(layer)
        q, k = layer.projections
        pair = encoding.matrices()
        if pair is not None:
            q, k = pair[0].double() @ q, pair[1].double() @ k
        found = kernel_maps(q, k, own, subject.sizes, encoding.layout)
        maps.append(found / encoding.head_dim**0.5)
    return torch.stack(maps)


def _change(subject: InspectedModel, initial: InspectedModel | None) -> dict[str, list[float]]:
    if initial is None:
        return {}
    changes: dict[str, list[float]] = {}
    for layer in subject.layers:
        now, then = (_weights(part.model, layer.name) for part in (subject, initial))
        for name, weight in now.items():
            relative = (weight - then[name]).norm() / then[name].norm()
            changes.setdefault(name, []).append(float(relative))
    return changes


def _weights(model: Any, name: str) -> dict[str, Tensor]:
    """Weights of one attention's projections; the image's, where text has its own."""
    attention = model.get_submodule(name)
    if hasattr(attention, "qkv"):
        q, k, v = attention.qkv.weight.chunk(3)
        output = attention.proj.weight
    else:
        q, k, v = (part.weight for part in (attention.to_q, attention.to_k, attention.to_v))
        output = attention.to_out[0].weight
    parts = {"queries": q, "keys": k, "values": v, "output": output}
    return {name: part.double() for name, part in parts.items()}


def _attention(
    subject: InspectedModel, num_images: int, notes: list[str]
) -> dict[str, AttentionStatistics]:
    if num_images == 0 or subject.train is None or subject.model is None:
        return {}
    try:
        return measure_attention(subject, num_images)
    except OSError as error:
        notes.append(f"The data of the run cannot be read, so no attention was measured: {error}")
        return {}
