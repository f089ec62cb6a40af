"""The command `harope evaluate distances`: FID and related distances to a reference."""

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harope._utils.atomic import write_json_atomic
from harope.cli.benchmarks import (
    add_max_unreadable,
    checked_batch_size,
    collected_warnings,
    print_warnings,
)
from harope.cli.parsers import add_json_argument

if TYPE_CHECKING:
    from accelerate import PartialState

    from harope.lab.metrics.distances import DistanceConfig, Score
    from harope.lab.metrics.feature_set import FeatureSet
    from harope.lab.metrics.features import Extractor
    from harope.lab.metrics.image_sets import ImageSet
    from harope.lab.metrics.reference import Reference

SUMMARY = "FID, KID, precision and recall, and other distances to a reference"
EXAMPLE = "harope evaluate distances samples/harope --reference images --metrics fid,pr"
PRECISION_NOTE = (
    "precision and recall compare distances in float64; ADM's evaluator uses float16, from which "
    "its values differ by up to 0.003"
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope evaluate distances`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "folder", type=Path, help="samples: folder of images, or .npz file with arr_0"
    )
    parser.add_argument(
        "--reference",
        required=True,
        help="reference: folder of images, .npz with arr_0, or .npz with mu and sigma, such as "
        "ADM's VIRTUAL_* files",
    )
    parser.add_argument(
        "--extractor",
        choices=("inception", "dinov2", "lite0"),
        default="inception",
        help="feature extractor; only distances of Inception features are called FID, KID and IS",
    )
    parser.add_argument(
        "--extractor-weights",
        help="weights of the extractor; inception: file of torch-fidelity; dinov2: folder or hub "
        "id",
    )
    parser.add_argument(
        "--metrics",
        default="fid",
        help="comma-separated list of fid, sfid, kid, is, pr (precision and recall, in float64: "
        "those of ADM's evaluator are in float16 and differ by up to 0.003) and dc (density and "
        "coverage)",
    )
    parser.add_argument(
        "--splits",
        choices=("adm", "torch-fidelity"),
        default="adm",
        help="splits of the Inception score: consecutive ones of 5,000 images (adm) or 10 shuffled "
        "ones (torch-fidelity)",
    )
    parser.add_argument(
        "--subset-size", type=int, default=1000, help="number of images in a subset of KID"
    )
    parser.add_argument("--batch-size", type=int, default=64, help="number of images at once")
    add_max_unreadable(parser)
    parser.add_argument(
        "--features",
        type=Path,
        help="folder in which features are cached; required with several processes",
    )
    parser.add_argument(
        "--save-statistics", type=Path, help=".npz file to write mu and sigma of the samples to"
    )
    add_json_argument(parser)


def run(options: argparse.Namespace) -> None:
    """Print each distance with its extractor, resizing, splits and reference.

    Args:
        options: Options of the command.

    Raises:
        ValueError: If samples or reference are missing or do not fit the metrics.
    """
    from harope._utils.distributed import this_process
    from harope.lab.metrics.distances import check_request
    from harope.lab.metrics.features import load_extractor
    from harope.lab.metrics.image_sets import open_images
    from harope.lab.metrics.reference import open_reference

    checked_batch_size(options)
    _check_folder(options.folder)
    config = _config(options)
    state = this_process()
    if state.num_processes > 1 and options.features is None:
        raise ValueError(
            f"{state.num_processes} processes need a folder to share features; pass --features "
            f"FOLDER"
        )
    tolerated = options.max_unreadable
    reference = open_reference(options.reference, max_unreadable=tolerated)
    samples = open_images(options.folder, max_unreadable=tolerated)
    extractor = load_extractor(options.extractor, options.extractor_weights, state.device)
    check_request(config, samples, reference, extractor)
    if reference.images is not None and reference.needs_features(config.metrics):
        reference.feature_set = _measure(reference.images, "reference", extractor, options, state)
    measured = _measure(samples, "samples", extractor, options, state)
    if state.is_main_process:
        _report(options, config, measured, samples, reference, extractor)


def _check_folder(folder: Path) -> None:
    """Raise ValueError for a run, whose images are grids of samples, and for incomplete samples."""
    from harope.lab.sampling.class_folder import MANIFEST_FILE, read_folder
    from harope.models.checkpoint_files import list_checkpoints

    if list_checkpoints(folder):
        raise ValueError(
            f"{folder} is a run, not a folder of samples; sample it with `harope sample {folder} "
            f"--count N --out DIR` and pass DIR"
        )
    if (folder / MANIFEST_FILE).is_file():
        read_folder(folder)


def _config(options: argparse.Namespace) -> "DistanceConfig":
    from harope.lab.metrics.distances import DistanceConfig

    return DistanceConfig(
        metrics=tuple(options.metrics.split(",")),
        splits=options.splits,
        subset_size=options.subset_size,
    )


def _measure(
    images: "ImageSet",
    name: str,
    extractor: "Extractor",
    options: argparse.Namespace,
    state: "PartialState",
) -> "FeatureSet":
    from harope._utils.distributed import wait_for_everyone
    from harope.lab.metrics.compute import (
        compute_features,
        compute_features_in_folder,
        merge_shards,
    )

    quiet = not state.is_main_process
    if options.features is None:
        keep = _config(options).needs_image_features
        return compute_features(
            images, extractor, batch_size=options.batch_size, keep_features=keep, quiet=quiet
        )
    folder = options.features / name
    compute_features_in_folder(
        images,
        extractor,
        folder,
        batch_size=options.batch_size,
        rank=state.process_index,
        world_size=state.num_processes,
        quiet=quiet,
    )
    wait_for_everyone()
    return merge_shards(folder, state.num_processes)


def _report(
    options: argparse.Namespace,
    config: "DistanceConfig",
    measured: "FeatureSet",
    samples: "ImageSet",
    reference: "Reference",
    extractor: "Extractor",
) -> None:
    from harope.lab.metrics.distances import compute_metrics
    from harope.lab.metrics.feature_set import save_statistics
    from harope.lab.reporting.tables import text_table

    notes = [note for images in (samples, reference.images) if images for note in _left_out(images)]
    with collected_warnings() as warned:
        scores = compute_metrics(config, measured, reference, extractor)
    notes += warned
    print_warnings(notes)
    if "pr" in config.metrics:
        notes.append(PRECISION_NOTE)
    against = f"{reference.source} ({reference.count or 'unknown'})"
    rows = [["metric", "value", "how", "extractor", "resize", "reference (images)"]]
    rows += [
        [
            item.name,
            _value(item),
            item.how or "-",
            extractor.display_name,
            extractor.resize,
            against,
        ]
        for item in scores
    ]
    print(f"{samples.source}: {measured.count} images of {samples.size[0]} x {samples.size[1]}")
    print(text_table(rows))
    if options.save_statistics:
        save_statistics(measured, options.save_statistics)
    if options.json:
        _write_json(options.json, scores, measured, reference, notes)


def _value(item: "Score") -> str:
    # Significant digits instead of decimals, because KID is of the order of 0.001.
    text = f"{item.value:.5g}"
    return text if item.uncertainty is None else f"{text} ± {item.uncertainty:.2g}"


def _left_out(images: "ImageSet") -> list[str]:
    from harope.lab.metrics.tolerant_reader import skipped_files_note

    return [skipped_files_note(images.source, images.unreadable)] if images.unreadable else []


def _write_json(
    path: Path,
    scores: "list[Score]",
    measured: "FeatureSet",
    reference: "Reference",
    notes: list[str],
) -> None:

    made = reference.feature_set and asdict(reference.feature_set.provenance)
    values: dict[str, Any] = {
        "scores": [asdict(item) for item in scores],
        "samples": asdict(measured.provenance) | {"count": measured.count},
        "reference": (made or {}) | {"source": reference.source, "count": reference.count},
        "notes": notes,
    }
    write_json_atomic(path, values, allow_nan=False)
