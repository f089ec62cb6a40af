"""`harope compare`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from harope.cli.train import parse_fields

if TYPE_CHECKING:
    from harope.lab.experiments.compare.sample_scores import SampleScoreConfig

T = TypeVar("T")

SUMMARY = "train encodings side by side, with seeds and controls, and report paired differences"
EXAMPLE = "harope compare scenes-dit --arms axial harope --seeds 0,1,2 --quick"
CONTROLS = ("wide", "rates")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What is compared, by which controls, and any field of the configuration."""
    parser.add_argument("recipe", help="name of a recipe, see `harope recipes`")
    parser.add_argument(
        "--arms",
        required=True,
        nargs="+",
        metavar="ARM",
        help="encodings to compare, each with options where it has some: axial harope "
        "harope:per_head=false axial:model.qk_norm=true harope:model.qk_norm=true. Arms with the "
        "same settings outside the encoding are compared with the first of them",
    )
    parser.add_argument("--seeds", default="0,1,2", help="whole numbers, two or more (0,1,2)")
    parser.add_argument(
        "--controls",
        default="wide,rates",
        help="of the baseline, or none. wide: as many parameters as the others, in its MLPs; "
        "rates: other learning rates of queries and keys (wide,rates)",
    )
    parser.add_argument(
        "--rates", help="factors for that control (0.5,2,4; with --quick or --smoke 0.5,2)"
    )
    parser.add_argument(
        "--samples", type=int, help="pictures to draw and score per run (300; with --quick 120)"
    )
    parser.add_argument(
        "--reference",
        help="folder of images or .npz, for a Fréchet distance of the samples (scenes alone are "
        "scored without)",
    )
    parser.add_argument(
        "--extractor",
        choices=("inception", "dinov2", "lite0"),
        default="inception",
        help="of that distance (inception)",
    )
    parser.add_argument("--extractor-weights", help="see `harope evaluate --help`")
    parser.add_argument("--vae", help="AutoencoderKL that decodes latents: folder or hub id")
    parser.add_argument(
        "--workers", type=int, help="runs side by side (one per GPU, or per core of the CPU)"
    )
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        help="niceness of the runs, 0 to 19: at 19 they take what other work leaves over (0)",
    )
    parser.add_argument(
        "--quick", action="store_true", help="a sixteenth of the steps, half of the batch"
    )
    parser.add_argument("--smoke", action="store_true", help="in seconds, on made data")
    parser.add_argument(
        "--out", type=Path, help="folder (default: runs/compare-RECIPE); goes on where it stopped"
    )
    parser.usage = (
        "harope compare RECIPE --arms A B [...] [--seeds 0,1,2] [--controls wide,rates] "
        "[--rates 0.5,2,4] [--samples N] [--reference REF] [--workers N] [--nice N] "
        "[--quick | --smoke] [--out DIR] [--FIELD VALUE ...]"
    )
    parser.set_defaults(takes_fields=True)


def run(options: argparse.Namespace) -> None:
    """Train what is missing, print both tables, and say where the page is."""
    from harope.lab.experiments.compare.main import run_comparison
    from harope.lab.experiments.compare.plan import CompareConfig, quick_config
    from harope.lab.experiments.compare.tables import difference_rows, mean_rows, interpretation
    from harope.lab.recipes import get_recipe
    from harope.lab.reporting.tables import text_table
    from harope.lab.training.serialization import override

    if options.quick and options.smoke:
        raise ValueError("--quick and --smoke are both given: choose one")
    recipe, brief = get_recipe(options.recipe), options.quick or options.smoke
    out = options.out or Path("runs") / f"compare-{recipe.name}{_suffix(options)}"
    controls = _controls(options.controls)
    rates = options.rates or ("0.5,2" if brief else "0.5,2,4")
    config = CompareConfig(
        arms=tuple(options.arms),
        seeds=_numbers("--seeds", options.seeds, int),
        wide="wide" in controls,
        rates=_numbers("--rates", rates, float) if "rates" in controls else (),
        scoring=_scoring(options),
        workers=options.workers,
        nice=options.nice,
    )
    base = recipe.smoke(out.with_name(f"{out.name}-data")) if options.smoke else recipe.config()
    base = override(quick_config(base) if options.quick else base, parse_fields(options.fields))
    if recipe.prepare is not None and not options.smoke:
        recipe.prepare(base)
    found = run_comparison(config, base, out, lambda line: print(line, flush=True))
    print(f"\n{text_table(mean_rows(found))}\n\n{text_table(difference_rows(found))}\n")
    print("\n".join(interpretation(found)))
    print(f"page: {out / 'report.html'}")


def _scoring(options: argparse.Namespace) -> "SampleScoreConfig":
    from harope.lab.experiments.compare.sample_scores import SampleScoreConfig

    usual = 6 if options.smoke else 120 if options.quick else 300
    return SampleScoreConfig(
        samples=usual if options.samples is None else options.samples,
        reference=options.reference,
        extractor=options.extractor,
        extractor_weights=options.extractor_weights,
        vae=options.vae,
    )


def _suffix(options: argparse.Namespace) -> str:
    return "-smoke" if options.smoke else "-quick" if options.quick else ""


def _controls(text: str) -> list[str]:
    names = [] if text == "none" else text.split(",")
    unknown = [name for name in names if name not in CONTROLS]
    if unknown:
        raise ValueError(f"--controls {text!r} must be none, or of {', '.join(CONTROLS)}")
    return names


def _numbers(name: str, text: str, kind: Callable[[str], T]) -> tuple[T, ...]:
    try:
        return tuple(kind(word) for word in text.split(","))
    except ValueError:
        raise ValueError(f"{name} {text!r} must be numbers, as 0,1,2") from None
