"""`harope sample`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harope._utils.suggestions import suggest
from harope.cli import prompts
from harope.cli.parsers import given_options
from harope.cli.prompts import BOTH, ONLY_RUNS, PROMPT_OPTIONS

if TYPE_CHECKING:
    from harope.lab.sampling.runs import ClassGenerator

SUMMARY = "sample a run, a checkpoint, a released .pt file or a pipeline into a folder of PNGs"
EXAMPLE = "harope sample runs/scenes-dit-harope --count 64 --out samples/harope"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope sample`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="run folder, checkpoint folder, .pt file, or folder of a diffusers pipeline",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the images")
    parser.add_argument("--count", type=int, help="number of samples (default: 64)")
    parser.add_argument(
        "--labels",
        help="class labels or names, such as 3 or cat,dog, repeated over the samples (default: all "
        "classes, evenly)",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first sample; the others count up"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        help="number of samples at once (default: 64, or 4 for pipelines)",
    )
    _add_settings(parser)
    parser.add_argument("--grid", type=Path, help="PNG file to write a grid of the first images to")
    parser.add_argument(
        "--npz",
        type=Path,
        help=".npz file to write all images to, as arr_0 for ADM's evaluator",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the samples in --out if another model or other settings generated them",
    )
    prompts.add_arguments(parser)


def _add_settings(parser: argparse.ArgumentParser) -> None:
    """Add the settings of model and sampler."""
    parser.add_argument(
        "--height", type=int, help="height in pixels, or of the latents (default: as trained)"
    )
    parser.add_argument(
        "--width", type=int, help="width in pixels, or of the latents (default: as trained)"
    )
    parser.add_argument(
        "--weights", choices=("ema", "model"), help="EMA or raw weights (default: ema)"
    )
    parser.add_argument(
        "--sampler",
        help="sampler: ancestral, ddim or dpm for diffusion, euler or heun for flow matching "
        "(default: that of the checkpoint)",
    )
    parser.add_argument(
        "--num-steps", type=int, help="number of sampling steps (default: that of the checkpoint)"
    )
    parser.add_argument(
        "--guidance",
        type=float,
        help="scale of classifier-free guidance (default: that of the checkpoint)",
    )
    parser.add_argument(
        "--guidance-channels",
        type=int,
        help="number of channels to guide, from the first; 3 in the DiT paper (default: that of "
        "the checkpoint)",
    )
    parser.add_argument(
        "--scaling",
        choices=("extrapolate", "interpolate", "ntk", "yarn"),
        help="scaling of positions at sizes other than the trained one (default: extrapolate)",
    )
    parser.add_argument(
        "--precision",
        choices=("no", "bf16", "fp16"),
        help="mixed precision (default: that of the training on a GPU, float32 on a CPU)",
    )
    parser.add_argument("--vae", help="AutoencoderKL that decodes latents: folder or hub id")
    parser.add_argument(
        "--num-heads", type=int, help="number of heads of a .pt file whose size is not a known one"
    )


def run(options: argparse.Namespace) -> None:
    """Generate the samples that are missing, and print where they are.

    Args:
        options: Options of the command.
    """
    if prompts.has_prompts(options):
        prompts.run(options)
    else:
        _run_classes(options)


def _run_classes(options: argparse.Namespace) -> None:
    from harope._utils.distributed import this_process, wait_for_everyone, workers
    from harope.lab.sampling.class_folder import FolderPlan, sample_folder
    from harope.lab.sampling.pipelines import is_pipeline
    from harope.lab.sampling.runs import RunOptions, load_class_generator, load_decoder

    if is_pipeline(options.checkpoint):
        raise ValueError(
            f"{options.checkpoint} is a diffusers pipeline, which needs prompts; pass "
            f"{PROMPT_OPTIONS}"
        )
    count = 64 if options.count is None else options.count
    changes = RunOptions(**given_options(options, *BOTH, *ONLY_RUNS))
    generator = load_class_generator(options.checkpoint, changes, num_heads=options.num_heads)
    if generator.shape is None:
        raise ValueError(
            f"{options.checkpoint} does not record the size of its training images; pass --height "
            f"and --width"
        )
    state = this_process()
    plan = FolderPlan(
        shape=generator.shape,
        labels=_labels(options, count, generator),
        count=count,
        first_seed=options.seed,
        batch_size=64 if options.batch_size is None else options.batch_size,
    )
    sample_folder(
        generator,
        plan,
        options.out,
        vae=load_decoder(changes.vae, generator.config.in_channels, state.device),
        device=state.device,
        overwrite=options.overwrite,
        workers=workers(),
        quiet=options.quiet,
    )
    wait_for_everyone()
    if state.is_main_process:
        _finish(options)


def _labels(
    options: argparse.Namespace, count: int, generator: "ClassGenerator"
) -> tuple[int, ...] | None:
    from harope.lab.sampling.class_folder import spread_labels
    from harope.lab.training.class_names import trained_classes

    num_classes = generator.config.num_classes or 0
    if options.labels is None:
        return spread_labels(count, num_classes or 0)
    if not num_classes:
        raise ValueError(
            f"--labels {options.labels} is given, but the model has no classes; omit it"
        )
    train = generator.train
    names = None if train is None else trained_classes(options.checkpoint, train.data)
    labels = [_label(word.strip(), names or ()) for word in options.labels.split(",")]
    return tuple(labels[index % len(labels)] for index in range(count))


def _label(word: str, names: Sequence[str]) -> int:
    """Return the label of a class by its name or number."""
    if word in names:
        return names.index(word)
    try:
        return int(word)
    except ValueError:
        pass
    if not names:
        raise ValueError(
            f"--labels {word!r} must be an integer, because the names of the classes are unknown"
        )
    hint = suggest(word, names, f"there are {len(names)}, such as {names[0]!r}")
    raise ValueError(f"--labels {word!r} is not a class of the model: {hint}")


def _finish(options: argparse.Namespace) -> None:
    from harope.lab.reporting.images import write_image_grid
    from harope.lab.sampling.class_folder import pack_folder, read_folder

    _, images = read_folder(options.out)
    print(f"{len(images)} samples in {options.out}")
    if options.grid:
        write_image_grid(images[:64], options.grid)
        print(f"grid: {options.grid}")
    if options.npz:
        print(f"npz:  {pack_folder(options.out, options.npz)}")
