"""Summary statistics of the heads of a trained model, and ablations of its matrices A.

The statistics are a subset of those of `harope inspect` (see harope.lab.analysis.matrices), small
enough to be stored for every run. The ablations replace the matrices A of a trained model without
training it again. They show how much its loss depends on what the matrices do beyond a rotation,
and on the differences between heads; a model that is trained without them could adapt.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from harope.diffusion import GaussianDiffusion, Process, SampleNoise
from harope.lab.analysis.capture import capture_attention
from harope.lab.analysis.inspected_model import model_layers
from harope.lab.analysis.matrices import (
    deviation_cosines,
    identity_distance,
    nearest_rotation,
    rotation_distance,
    rotation_magnitude,
    singular_values,
)
from harope.lab.analysis.receptive_fields import Grid, mean_distance
from harope.lab.training.task import Task, TensorBatch
from harope.lab.training.tasks.class_conditional import ClassConditional
from harope.lab.training.tasks.classification import Classification
from harope.models.vit import vit_patch_size
from harope.rope import RotaryEncoding
from harope.rope.basis import Basis, Identity, MatrixPair

Replacement = Literal["rotation", "mean", "identity"]
"""Replacement of A_q and A_k, see `replaced_basis`."""

TIMES = (0.25, 0.5, 0.75)
"""Times of a diffusion process at which attention is measured, from 0 (image) to 1 (noise)."""
DIGITS = 5
"""Number of significant digits of stored statistics."""
_IMAGES_AT_ONCE = 8
"""Number of images whose attention probabilities are in memory at a time."""

PerHead = Float[Tensor, " heads"]
Queries = Float[Tensor, "batch heads tokens head_dim"]


@torch.no_grad()
def head_statistics(task: Task, batch: TensorBatch | None) -> dict[str, Any]:
    """Compute statistics of all layers and heads, rounded to five significant digits.

    `attention_distance` (in tokens) and `attention_entropy` (in nats) are means over images and
    queries; `attention_distance_std` is the standard deviation of the distance across the heads of
    a layer. Each is given by input: "0.25", "0.5" and "0.75" are times of the diffusion, with the
    noise of seed i for image i; "images" are the images of a classifier. Only attention between
    image tokens counts: a class token is ignored as a query and as a key, and the probabilities of
    the other keys are normalised to a sum of 1.

    If the encoding has a basis, the statistics of A_q are added, see `basis_statistics`.

    Args:
        task: Task with its model in eval mode.
        batch: Images and classes of the task's dataset, on the model's device; None to omit the
            attention.

    Returns:
        By name, lists [layer][head], or [layer] for statistics of a layer.

    Raises:
        ValueError: A batch is given, but the task is neither class-conditional diffusion nor
            classification.
    """
    statistics = {} if batch is None else _attention_statistics(task, batch)
    pairs = [layer.encoding.reference_matrices() for layer in model_layers(task.model)]
    queries = [pair[0] for pair in pairs if pair is not None]
    return statistics | (basis_statistics(torch.stack(queries)) if queries else {})


def basis_statistics(
    matrices: Float[Tensor, "layers heads head_dim head_dim"],
) -> dict[str, Any]:
    """Compute statistics of the matrices A_q, rounded to five significant digits.

    For `singular_values` (largest, median, smallest), `identity_distance`, `rotation_distance` and
    `turn`, see harope.lab.analysis.matrices; `stretch` is the mean of |log s| over the singular
    values s. `deviation_cosine` is the mean cosine similarity of A - I over the pairs of heads of a
    layer; it is absent if the heads share a matrix.

    Args:
        matrices: A_q of every layer, with one head if all heads of a layer share it.

    Returns:
        By name, lists [layer][head], or [layer].
    """
    spectra = singular_values(matrices)
    values = {
        "largest": spectra[..., 0],
        "median": spectra.quantile(0.5, dim=-1),
        "smallest": spectra[..., -1],
    }
    statistics: dict[str, Any] = {
        "singular_values": {name: _rounded(value) for name, value in values.items()},
        "identity_distance": _rounded(identity_distance(matrices)),
        "rotation_distance": _rounded(rotation_distance(matrices)),
        "turn": _rounded(rotation_magnitude(matrices)),
        "stretch": _rounded(spectra.log().abs().mean(dim=-1)),
    }
    heads = matrices.shape[1]
    if heads > 1:
        cosines = torch.stack([deviation_cosines(layer) for layer in matrices])
        others = cosines.sum((-2, -1)) - cosines.diagonal(dim1=-2, dim2=-1).sum(-1)
        statistics["deviation_cosine"] = _rounded(others / (heads * (heads - 1)))
    return statistics


def distance_and_entropy(q: Queries, k: Queries, sizes: Grid) -> tuple[PerHead, PerHead]:
    """Compute the mean attention distance and the mean entropy of softmax(q k^T / sqrt(head_dim)).

    Args:
        q: Queries of the tokens of a grid, row by row, after QK-norm, basis and rotation.
        k: Keys of the same tokens.
        sizes: Number of tokens along y and x.

    Returns:
        Distance in tokens and entropy in nats, means over images and queries, float64.

    Raises:
        ValueError: The number of tokens differs from that of the grid.
    """
    if q.shape[2] != sizes[0] * sizes[1]:
        raise ValueError(
            f"q has {q.shape[2]} tokens but the grid {sizes} has {sizes[0] * sizes[1]}: pass only "
            f"the tokens of the image"
        )
    distance, entropy = q.new_zeros(2, q.shape[1], dtype=torch.float64)
    for queries, keys in zip(q.split(_IMAGES_AT_ONCE), k.split(_IMAGES_AT_ONCE), strict=True):
        scores = queries.double() @ keys.double().mT / q.shape[-1] ** 0.5
        logs = scores.log_softmax(dim=-1)
        attention = logs.exp()
        far = mean_distance(attention.flatten(0, 1), sizes).unflatten(0, attention.shape[:2])
        distance = distance + far.sum(dim=0)
        entropy = entropy - (attention * logs).sum(dim=-1).mean(dim=-1).sum(dim=0)
    return distance / len(q), entropy / len(q)


@contextmanager
def replaced_basis(model: nn.Module, kind: Replacement) -> Iterator[None]:
    """Replace all learned bases of a model inside the context, without training.

        "rotation"   A_q = A_k = the rotation nearest to A_q of each head
        "mean"       A_q = the layer's mean of A_q over its heads, for all heads; A_k = A_q, or
                     A_q^-T for the pairing `inverse` (an orthogonal basis, for which both pairings
                     are equal, is treated as `same`; its mean is not orthogonal)
        "identity"   A_q = A_k = I

    Nothing else changes; afterwards, the outputs are bit for bit those from before.

    Args:
        model: Model that `harope.integrations` supports, such as a `harope.DiT`.
        kind: Replacement of the matrices.

    Yields:
        Nothing.

    Raises:
        ValueError: `kind` is unknown, or the model has no learned basis.
    """
    if kind not in get_args(Replacement):
        raise ValueError(f"kind {kind!r} is unknown: use one of {', '.join(get_args(Replacement))}")
    encodings = _learned(model)
    if not encodings:
        raise ValueError(
            f"{type(model).__name__} has no encoding with a learned basis that could be replaced"
        )
    originals = [encoding.basis for encoding in encodings]
    replacements = [_replacement(basis, kind) for basis in originals]
    try:
        _set_bases(encodings, replacements)
        yield
    finally:
        _set_bases(encodings, originals)


def ablation_losses(model: nn.Module, evaluate: Callable[[], float]) -> dict[str, float]:
    """Evaluate a model with every replacement of its bases, see `replaced_basis`.

    Args:
        model: Model that `evaluate` uses, in eval mode.
        evaluate: Function that returns a loss or another metric, with the same data and noise at
            every call.

    Returns:
        Metric by replacement; empty if the model has no learned basis.
    """
    losses: dict[str, float] = {}
    for kind in get_args(Replacement) if _learned(model) else ():
        with replaced_basis(model, kind):
            losses[kind] = evaluate()
    return losses


class _ConstantBasis(Basis):
    """Basis with given matrices."""

    query: Tensor
    key: Tensor

    def __init__(self, query: Tensor, key: Tensor) -> None:
        super().__init__()
        self.register_buffer("query", query, persistent=False)
        self.register_buffer("key", key, persistent=False)

    def forward(self) -> MatrixPair | None:
        return self.query, self.key


@torch.no_grad()
def _replacement(basis: Basis, kind: Replacement) -> Basis:
    pair = basis()
    if kind == "identity":
        return Identity()
    query = pair[0].double()
    if kind == "rotation":
        query = key = nearest_rotation(query)
    else:
        query = query.mean(dim=0, keepdim=True)
        inverse = getattr(basis, "pairing", "same") == "inverse"
        key = torch.linalg.inv(query).mT if inverse else query
    return _ConstantBasis(query.to(pair[0]), key.to(pair[1]))


def _learned(model: nn.Module) -> list[RotaryEncoding]:
    """Return the encodings whose basis has parameters."""
    return [
        layer.encoding
        for layer in model_layers(model)
        if isinstance(layer.encoding, RotaryEncoding) and [*layer.encoding.basis.parameters()]
    ]


def _set_bases(encodings: list[RotaryEncoding], bases: list[Basis]) -> None:
    # Cached matrices belong to a basis, so that those of the new basis are computed anew.
    for encoding, basis in zip(encodings, bases, strict=True):
        encoding.basis = basis


def _attention_statistics(task: Task, batch: TensorBatch) -> dict[str, Any]:
    """By name and input."""
    patch, _ = _tokens(task)
    sizes = batch[0].shape[-2] // patch, batch[0].shape[-1] // patch
    found: dict[str, Any] = {}
    for name, forward in _forwards(task, batch).items():
        distance, entropy = _measured(task, forward, sizes)
        numbers = {
            "attention_distance": distance,
            "attention_entropy": entropy,
            "attention_distance_std": distance.std(dim=1, correction=0),
        }
        for key, values in numbers.items():
            found.setdefault(key, {})[name] = _rounded(values)
    return found


def _forwards(task: Task, batch: TensorBatch) -> dict[str, Callable[[], Any]]:
    """Forward passes of the batch by what goes in."""
    images = batch[0]
    if isinstance(task, Classification):
        return {"images": partial(task.model, images)}
    assert isinstance(task, ClassConditional)
    model, condition = task.model, batch[1:] if task.model.config.num_classes else ()
    noise = SampleNoise(range(len(images)), images.shape[1:], images.device).next()
    return {
        f"{level:g}": partial(
            task.process.losses,
            lambda x, t: model(x, t, *condition),
            images,
            noise,
            images.new_full((len(images),), _time(task.process, level)),
        )
        for level in TIMES
    }


def _time(process: Process, level: float) -> float:
    """Convert a time in [0, 1] to the unit of the process."""
    if isinstance(process, GaussianDiffusion):
        return round(level * (process.config.num_timesteps - 1))
    return level


def _measured(
    task: Task, forward: Callable[[], Any], sizes: Grid
) -> tuple[Float[Tensor, "layers heads"], Float[Tensor, "layers heads"]]:
    """Distance and entropy of every head in one forward pass."""
    prefix = _tokens(task)[1]

    def read(q: Tensor, k: Tensor) -> tuple[PerHead, PerHead]:
        return distance_and_entropy(q[:, :, prefix:], k[:, :, prefix:], sizes)

    layers = capture_attention(forward, read, len(model_layers(task.model)))
    distance, entropy = (torch.stack(parts) for parts in zip(*layers, strict=True))
    return distance, entropy


def _tokens(task: Task) -> tuple[int, int]:
    """Side of a patch in pixels, and the number of tokens before the image's."""
    if isinstance(task, Classification):
        return vit_patch_size(task.model), task.model.num_prefix_tokens
    if isinstance(task, ClassConditional):
        return task.config.model.patch_size, 0
    raise ValueError(
        f"attention of the task {type(task).__name__} cannot be measured, only that of "
        f"class-conditional diffusion and of classification: pass None for the batch"
    )


def _rounded(values: Tensor) -> Any:
    """Convert a tensor to nested lists of rounded numbers."""
    if values.ndim:
        return [_rounded(value) for value in values]
    return float(f"{float(values):.{DIGITS}g}")
