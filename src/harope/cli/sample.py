"""`harope sample`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli import prompts
from harope.cli.prompts import FORMS

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from harope.models.dit import DiT

SUMMARY = "draw samples of a run, a checkpoint or a released .pt into a folder of PNGs"
EXAMPLE = "harope sample runs/scenes-dit-harope --count 64 --out samples/harope"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to draw, from what, and how."""
    parser.add_argument(
        "checkpoint", type=Path, help="run or checkpoint folder, .pt file; pipeline"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--count", type=int, help="number of samples (64)")
    parser.add_argument(
        "--labels", help="classes, as 3 or 1,2,3, repeated over the samples (default: all, evenly)"
    )
    parser.add_argument("--first-seed", type=int, default=0, help="seed of sample 0 (0)")
    parser.add_argument("--batch-size", type=int, help="samples drawn at once (64; 4 by pipelines)")
    parser.add_argument("--height", type=int, help="pixels or latents (default: as trained)")
    parser.add_argument("--width", type=int, help="pixels or latents (default: as trained)")
    parser.add_argument("--weights", choices=("ema", "model"), help="which (ema)")
    parser.add_argument("--sampler", help="ancestral, ddim, dpm; euler, heun for flow")
    parser.add_argument("--num-steps", type=int, help="steps of the sampler")
    parser.add_argument("--guidance", type=float, help="scale of classifier-free guidance")
    parser.add_argument(
        "--guidance-channels", type=int, help="guide the first channels only (the papers: 3)"
    )
    parser.add_argument(
        "--scaling",
        choices=("extrapolate", "interpolate", "ntk", "yarn"),
        help="how positions read another size than the trained one (extrapolate)",
    )
    parser.add_argument("--vae", help="AutoencoderKL that decodes latents: folder or hub id")
    parser.add_argument("--num-heads", type=int, help="heads of a .pt of unknown size")
    parser.add_argument("--grid", type=Path, help="also write the first pictures as one PNG")
    parser.add_argument(
        "--npz", type=Path, help="also write all pictures as arr_0, as ADM's evaluation reads them"
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    prompts.add_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Draw what is missing, and print where it is."""
    if prompts.given(options):
        prompts.run(options)
    else:
        _run_classes(options)


def _run_classes(options: argparse.Namespace) -> None:
    from harope._utils.distributed import this_process
    from harope.lab.sampling.class_folder import FolderPlan, sample_folder
    from harope.lab.sampling.pipelines import is_pipeline
    from harope.lab.sampling.runs import load_generator

    if is_pipeline(options.checkpoint):
        raise ValueError(
            f"{options.checkpoint} is a diffusers pipeline: say what to draw with {FORMS}"
        )
    options = _with_defaults(options)
    loaded = load_generator(
        options.checkpoint, weights=options.weights, num_heads=options.num_heads
    )
    loaded = loaded.with_sampling(**_sampling(options))
    state = this_process()
    plan = FolderPlan(
        shape=_shape(options, loaded.model),
        labels=_labels(options, loaded.model.config.num_classes),
        count=options.count,
        first_seed=options.first_seed,
        batch_size=options.batch_size,
    )
    sample_folder(
        loaded,
        plan,
        options.out,
        decode=_decoder(options, loaded.model, state.device),
        device=state.device,
        rank=state.process_index,
        world_size=state.num_processes,
        quiet=options.quiet,
    )
    state.wait_for_everyone()
    if state.is_main_process:
        _finish(options)


def _with_defaults(options: argparse.Namespace) -> argparse.Namespace:
    """What stands for options that were not given; the parser leaves them open, to know."""
    defaults = {"count": 64, "batch_size": 64, "weights": "ema", "scaling": "extrapolate"}
    values = vars(options)
    return argparse.Namespace(
        **values | {name: value for name, value in defaults.items() if values[name] is None}
    )


def _sampling(options: argparse.Namespace) -> dict[str, object]:
    names = ("sampler", "num_steps", "guidance", "guidance_channels")
    given = {name: getattr(options, name) for name in names}
    return {name: value for name, value in given.items() if value is not None}


def _labels(options: argparse.Namespace, num_classes: int) -> tuple[int, ...] | None:
    from harope.lab.sampling.class_folder import spread_labels

    if options.labels is None:
        return spread_labels(options.count, num_classes)
    if not num_classes:
        raise ValueError(f"--labels {options.labels} given but the model has no classes: omit it")
    try:
        chosen = [int(word) for word in options.labels.split(",")]
    except ValueError:
        raise ValueError(f"--labels {options.labels!r} must be whole numbers, as 1,2,3") from None
    return tuple(chosen[index % len(chosen)] for index in range(options.count))


def _shape(options: argparse.Namespace, model: "DiT") -> tuple[int, int, int]:
    from harope.rope import set_scaling

    trained, patch = model.config.input_size, model.config.patch_size
    height, width = (
        options.height or (trained and trained[0]),
        options.width or (trained and trained[1]),
    )
    if height is None or width is None:
        raise ValueError(
            f"{options.checkpoint} does not say what size it was trained at: "
            f"pass --height and --width"
        )
    # Loaded models extrapolate, which needs nothing that could be scaled.
    if trained is not None and (height, width) != trained and options.scaling != "extrapolate":
        sizes, train_sizes = (
            (height // patch, width // patch),
            (trained[0] // patch, trained[1] // patch),
        )
        set_scaling(model, options.scaling, sizes=sizes, train_sizes=train_sizes)
    return model.config.in_channels, height, width


def _decoder(
    options: argparse.Namespace, model: "DiT", device: "torch.device"
) -> "Callable[[Tensor], Tensor] | None":
    if options.vae is None:
        if model.config.in_channels > 3:
            raise ValueError(
                f"the model makes latents of {model.config.in_channels} channels: pass --vae with "
                f"the AutoencoderKL that encoded its training data"
            )
        return None
    from harope.lab.data.latents.encode import decode_latents, load_vae

    vae = load_vae(options.vae).to(device)
    return lambda latents: decode_latents(vae, latents)


def _finish(options: argparse.Namespace) -> None:
    from harope.lab.reporting.images import grid_of_files
    from harope.lab.sampling.class_folder import pack_folder, read_folder

    _, pictures = read_folder(options.out)
    print(f"{len(pictures)} samples in {options.out}")
    if options.grid:
        grid_of_files(pictures[:64], options.grid)
        print(f"grid: {options.grid}")
    if options.npz:
        print(f"npz:  {pack_folder(options.out, options.npz)}")
