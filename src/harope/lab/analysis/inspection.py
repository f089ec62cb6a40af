"""The analysis of `harope inspect`: all numbers about a model's attentions and encodings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from harope.lab.analysis.attention import AttentionStatistics, measure_attention
from harope.lab.analysis.flops import ModelCosts, count_costs
from harope.lab.analysis.inspected_model import AttentionLayer, InspectedModel
from harope.lab.analysis.matrices import (
    axis_groups,
    deviation_cosines,
    identity_distance,
    lowest_frequency_channels,
    mixing,
    plane_angles,
    plane_groups,
    rotation_distance,
    rotation_magnitude,
    singular_values,
)
from harope.lab.analysis.receptive_fields import Grid, encoding_kernel, kernel_maps, wave_vectors
from harope.rope import RotaryEncoding
from harope.rope.basis import MatrixPair

LayerMaps = Float[Tensor, "layers heads rows columns"]


@dataclass(frozen=True, kw_only=True)
class MatrixStatistics:
    """Statistics of A_q or A_k of every head; one "head" if all heads of a layer share a matrix."""

    singular_values: Float[Tensor, "layers heads head_dim"]
    """Singular values in descending order."""
    from_identity: Float[Tensor, "layers heads"]
    """|A - I| / |I|."""
    from_rotation: Float[Tensor, "layers heads"]
    """|A - Q| / |I| with Q the rotation nearest to A."""
    turn: Float[Tensor, "layers heads"]
    """|Q - I| / |I|."""
    plane_mixing: Float[Tensor, "layers heads"]
    """Fraction of the sum of squared entries that lies between different rotary planes."""
    axis_mixing: Float[Tensor, "layers heads"] | None
    """The same between channels of different axes; None if a pair rotates along several axes."""


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """Results of an analysis; what does not apply to the model is None or empty."""

    title: str
    """One-line description of the model."""
    layers: list[str]
    """Path of each attention in the model."""
    sizes: Grid
    """Number of image tokens along y and x."""
    matrices: dict[str, MatrixStatistics]
    """Statistics of "q" and "k", or of "q and k" if A_q = A_k; empty without a basis."""
    cosines: Float[Tensor, "all_heads all_heads"] | None
    """Cosines between A_q - I of all heads, layer by layer."""
    plane_angles: Float[Tensor, "all_heads all_heads"] | None
    """Mean principal angles between the inputs of the slowest planes of all heads, in degrees."""
    kernels: Float[Tensor, "layers _ rows columns"] | None
    """Kernels of the encodings; one map per layer if its heads do not differ."""
    scores: LayerMaps | None
    """Mean score of two tokens with equal white-noise content, for projections with encodings."""
    initial_scores: LayerMaps | None
    """The same at the start of training."""
    change: dict[str, list[float]]
    """|W - W_0| / |W_0| since the start of training, by weight and layer."""
    attention: dict[str, AttentionStatistics]
    """Attention on real inputs, by input."""
    costs: ModelCosts
    """Parameters and multiply-adds."""
    notes: list[str] = field(default_factory=list)
    """Reasons why results are missing."""


@torch.no_grad()
def inspect_model(
    inspected: InspectedModel, *, num_images: int, log: Callable[[str], None] = print
) -> Inspection:
    """Analyse a model.

    Args:
        inspected: The model, or an encoding without its model.
        num_images: Images of the run's data to measure attention on; 0 for none.
        log: Called with a line of progress before each part that may take seconds.

    Returns:
        Results; `notes` explains those that are missing.

    Raises:
        ValueError: A parameter is not finite, or as in `measure_attention`.
    """
    _check_finite(inspected)
    log(f"matrices, kernels and scores of {len(inspected.layers)} layers")
    all_pairs = [layer.encoding.reference_matrices() for layer in inspected.layers]
    pairs = [pair for pair in all_pairs if pair is not None]
    vectors, initial = _vectors(inspected), inspected.initial_model()
    cosines, angles = _similarity(inspected, pairs, vectors)
    scores, notes = _scores(inspected, vectors), _notes(inspected, initial, pairs, vectors)
    change, kernels = _change(inspected, initial), _kernels(inspected, vectors)
    attention = _attention(inspected, num_images, notes, log)
    log("multiply-adds of the model")
    return Inspection(
        title=inspected.title,
        layers=[layer.name for layer in inspected.layers],
        sizes=inspected.sizes,
        matrices=_matrix_statistics(inspected, pairs, vectors),
        cosines=cosines,
        plane_angles=angles,
        kernels=kernels,
        scores=scores,
        initial_scores=None if initial is None else _scores(initial, _vectors(initial)),
        change=change,
        attention=attention,
        costs=count_costs(inspected),
        notes=notes,
    )


def _check_finite(inspected: InspectedModel) -> None:
    encodings = {layer.name: layer.encoding for layer in inspected.layers}
    modules = encodings if inspected.model is None else {"": inspected.model}
    for path, module in modules.items():
        for name, parameter in module.named_parameters(prefix=path):
            if not parameter.isfinite().all():
                raise ValueError(
                    f"{name} contains NaN or infinity: the training has diverged, or the file is "
                    f"damaged; pass an earlier checkpoint"
                )


def _notes(
    inspected: InspectedModel,
    initial: InspectedModel | None,
    pairs: list[MatrixPair],
    vectors: list[Tensor] | None,
) -> list[str]:
    """Explain which results are missing."""
    alone, unknown = inspected.model is None, inspected.train is None
    absent = {
        "An encoding without its model has no scores of heads, no attention on images and no "
        "change of weights. Costs are those of an attention without biases and without text.": (
            alone
        ),
        "The encoding has no matrices: heads differ by their projections only.": not pairs,
        "The encoding does not turn pairs of channels by angles: no kernel of the offset.": (
            not vectors
        ),
        "The model has QK-norm: no scores of heads, and the matrices cannot be folded.": (
            not alone and inspected.layers[0].projections is None
        ),
        "The training is unknown: no attention on images, no change of weights.": (
            not alone and unknown
        ),
        "The initial weights of the training are not available: no change of weights.": (
            not unknown and initial is None
        ),
    }
    return [note for note, applies in absent.items() if applies]


def _vectors(inspected: InspectedModel) -> list[Tensor] | None:
    """Return the wave vectors of every layer; None if an encoding does not rotate by angles."""
    vectors = []
    for layer in inspected.layers:
        encoding = layer.encoding
        if not isinstance(encoding, RotaryEncoding) or encoding.frequencies is None:
            return None
        if not encoding.frequencies.has_angles:
            return None
        vectors.append(wave_vectors(encoding.angles, encoding.num_axes, inspected.sizes))
    return vectors


def _rotary(layer: AttentionLayer) -> RotaryEncoding:
    assert isinstance(layer.encoding, RotaryEncoding)
    return layer.encoding


def _matrix_statistics(
    inspected: InspectedModel, pairs: list[MatrixPair], vectors: list[Tensor] | None
) -> dict[str, MatrixStatistics]:
    if not pairs:
        return {}
    queries, keys = (torch.stack(side) for side in zip(*pairs, strict=True))
    if torch.equal(queries, keys):
        return {"q and k": _statistics(inspected, queries, vectors)}
    return {
        "q": _statistics(inspected, queries, vectors),
        "k": _statistics(inspected, keys, vectors),
    }


def _statistics(
    inspected: InspectedModel, matrices: Tensor, vectors: list[Tensor] | None
) -> MatrixStatistics:
    first = _rotary(inspected.layers[0])
    planes = plane_groups(first.head_dim, first.layout)
    axes = None if vectors is None else axis_groups(vectors[0], first.layout)
    return MatrixStatistics(
        singular_values=singular_values(matrices),
        from_identity=identity_distance(matrices),
        from_rotation=rotation_distance(matrices),
        turn=rotation_magnitude(matrices),
        plane_mixing=mixing(matrices, planes),
        axis_mixing=None if axes is None else mixing(matrices, axes),
    )


def _similarity(
    inspected: InspectedModel, pairs: list[MatrixPair], vectors: list[Tensor] | None
) -> tuple[Tensor | None, Tensor | None]:
    if not pairs:
        return None, None
    queries = torch.cat([pair[0] for pair in pairs])
    cosines = deviation_cosines(queries)
    if vectors is None:
        return cosines, None
    channels = lowest_frequency_channels(vectors[0], _rotary(inspected.layers[0]).layout)
    return cosines, plane_angles(queries, channels)


def _kernels(inspected: InspectedModel, vectors: list[Tensor] | None) -> LayerMaps | None:
    if vectors is None:
        return None
    maps = []
    for layer, layer_vectors in zip(inspected.layers, vectors, strict=True):
        encoding = _rotary(layer)
        maps.append(
            encoding_kernel(
                encoding.reference_matrices(),
                encoding.head_dim,
                layer_vectors,
                inspected.sizes,
                encoding.layout,
            )
        )
    return torch.stack(maps)


def _scores(inspected: InspectedModel, vectors: list[Tensor] | None) -> LayerMaps | None:
    if vectors is None:
        return None
    maps = []
    for layer, layer_vectors in zip(inspected.layers, vectors, strict=True):
        if layer.projections is None:
            return None
        encoding = _rotary(layer)
        q, k = layer.projections
        pair = encoding.reference_matrices()
        if pair is not None:
            q, k = pair[0].double() @ q, pair[1].double() @ k
        kernels = kernel_maps(q, k, layer_vectors, inspected.sizes, encoding.layout)
        maps.append(kernels / encoding.head_dim**0.5)
    return torch.stack(maps)


def _change(inspected: InspectedModel, initial: InspectedModel | None) -> dict[str, list[float]]:
    if initial is None:
        return {}
    changes: dict[str, list[float]] = {}
    for layer in inspected.layers:
        now, then = (_weights(part.model, layer.name) for part in (inspected, initial))
        for name, weight in now.items():
            relative = (weight - then[name]).norm() / then[name].norm()
            changes.setdefault(name, []).append(float(relative))
    return changes


def _weights(model: Any, name: str) -> dict[str, Tensor]:
    """Return the projection weights of an attention; for joint attention the image stream's."""
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
    inspected: InspectedModel, num_images: int, notes: list[str], log: Callable[[str], None]
) -> dict[str, AttentionStatistics]:
    if num_images == 0 or inspected.train is None or inspected.model is None:
        return {}
    log(f"attention on {num_images} images")
    try:
        return measure_attention(inspected, num_images)
    except OSError as error:
        notes.append(f"The data of the run cannot be read, so no attention was measured: {error}")
        return {}
