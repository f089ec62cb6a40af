"""Accuracy of a classifier at resolutions other than the training resolution."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import torch
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn import functional as F

from harope._utils.progress import Progress
from harope.lab.data.dataset import Batch, items_in_order
from harope.lab.data.labelled.folder import FolderDataConfig, ImageFolderDataset
from harope.lab.evals.classification import warn_of_missing_classes
from harope.lab.metrics.accuracy import top_k_accuracy
from harope.lab.metrics.intervals import Proportion, Scores
from harope.lab.training.class_names import trained_classes
from harope.lab.training.execution import autocast, inference_precision, num_data_workers
from harope.lab.training.run_dir import read_config
from harope.lab.training.tasks.classification import ClassifyConfig, open_held_out
from harope.models.vit import read_vit, vit_patch_size
from harope.rope import set_scaling
from harope.rope.scaling import Scalable, Scaling, ScalingMethod

if TYPE_CHECKING:
    from timm.models.vision_transformer import VisionTransformer


def resolution_scores(
    run: Path,
    sizes: Sequence[int],
    methods: Sequence[ScalingMethod] | None = None,
    *,
    weights: str = "ema",
    quiet: bool = True,
) -> dict[str, Scores]:
    """Measure the top-1 accuracy of a classification run on its held-out images.

    Images of a folder are read at each size; others are resized by bicubic interpolation with
    antialiasing. At the training resolution all methods are equal. Classes of folders are matched
    by their names; a UserWarning names trained classes without held-out images.

    Args:
        run: Folder of a classification run.
        sizes: Heights and widths of the square images in pixels.
        methods: Methods of `harope.set_scaling`; by default all that the encoding supports.
        weights: "ema" or "model".
        quiet: Whether to hide the progress bar.

    Returns:
        Accuracy by method and size. A model that has only its own learned embedding, which timm
        resamples, has the single method "unscaled".

    Raises:
        ValueError: If the run has another task, a size is not a multiple of the patch size, or the
            encoding does not support a method.
    """
    config, model, trained = _read_classifier(run, weights)
    patch = vit_patch_size(model)
    invalid = [size for size in sizes if size < patch or size % patch]
    if invalid:
        raise ValueError(
            f"size {invalid[0]} is not a multiple of the patch size, {patch} pixels: choose one"
        )

    classes = trained_classes(run, config.data)
    scalable = any(isinstance(part, Scalable) for part in model.modules())

    @cache
    def score(method: ScalingMethod, size: int) -> Proportion:
        train_sizes = [side // patch for side in trained]
        if scalable:
            set_scaling(model, method, sizes=[size // patch] * 2, train_sizes=train_sizes)
        device = next(model.parameters()).device
        images = _held_out(config, size, classes, num_data_workers(config.num_workers, device))
        with autocast(inference_precision(None, config.precision, device), device):
            return top_k_accuracy(model, images, ks=(1,))[1]

    columns = _columns(model, methods)
    scores: dict[str, Scores] = {}
    with Progress(len(columns) * len(sizes), "methods and sizes", quiet=quiet) as bar:
        for column, method in columns.items():
            scores[column] = {}
            for size in sizes:
                # All methods are the identity at the training resolution: it is scored once.
                same = (size, size) == trained
                scores[column][str(size)] = score("extrapolate" if same else method, size)
                bar.update()
    return scores


def _read_classifier(
    run: Path, weights: str
) -> "tuple[ClassifyConfig, VisionTransformer, tuple[int, int]]":
    """Return a run's configuration, its last model and the image size it was trained on."""
    config = read_config(run)
    if not isinstance(config, ClassifyConfig):
        raise ValueError(
            f"{run} was trained by {config.recipe}, which does not classify: pass a run of a "
            f"recipe such as digits-vit"
        )
    model, architecture = read_vit(run, weights=weights)
    assert architecture.input_size is not None
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return config, model.to(device), architecture.input_size


def _columns(model: nn.Module, methods: Sequence[ScalingMethod] | None) -> dict[str, ScalingMethod]:
    """Return the scaling methods to test, by column title."""
    parts = [part for part in model.modules() if isinstance(part, Scalable)]
    if not parts:
        return {"unscaled": "extrapolate"}
    if methods is None:
        methods = [method for method in get_args(ScalingMethod) if _accepts(parts, method)]
    return {method: method for method in methods}


def _accepts(parts: Sequence[Scalable], method: ScalingMethod) -> bool:
    """Return whether every part of a model's encodings can be scaled by a method."""
    sizes = (1,) * parts[0].num_axes
    try:
        scaling = Scaling(method=method, train_sizes=sizes, sizes=sizes)
        for part in parts:
            part.check_scaling(scaling)
    except ValueError:
        return False
    return True


def _held_out(
    config: ClassifyConfig, size: int, trained: tuple[str, ...] | None, num_workers: int
) -> Iterator[Batch]:
    _, data = config.data_parts()
    if isinstance(data, FolderDataConfig):
        data = replace(data, image_size=size)
    source = open_held_out(data)
    order = (
        _match_classes(source.classes, trained) if isinstance(source, ImageFolderDataset) else None
    )
    for images, labels in items_in_order(
        source, batch_size=config.batch_size, num_workers=num_workers
    ):
        if images.shape[-2:] != (size, size):
            images = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
        yield images, labels if order is None else order[labels]


def _match_classes(
    held_out: tuple[str, ...], trained: tuple[str, ...] | None
) -> Int64[Tensor, " classes"] | None:
    """Return the trained label of each held-out class; None if no names are known."""
    if not held_out or not trained:
        return None
    warn_of_missing_classes("held-out images", held_out, trained)
    unknown = [name for name in held_out if name not in trained]
    if unknown:
        raise ValueError(
            f"held-out class {unknown[0]!r} is none of the {len(trained)} trained classes: remove "
            f"its images"
        )
    return torch.tensor([trained.index(name) for name in held_out])
