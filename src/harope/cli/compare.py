"""`harope compare`."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli.fields import changed_config
from harope.cli.parsing import parse_list

if TYPE_CHECKING:
    from harope.lab.experiments.compare.sample_scores import SampleScoreConfig

SUMMARY = "train several encodings with seeds and controls, and report paired differences"
EXAMPLE = "harope compare scenes-dit --arms axial harope --seeds 0,1,2 --quick"
EXTRA = "train"
CONTROLS = ("wide", "rates")
"""Controls that can be trained."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope compare`; others are fields of the configuration.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("recipe", help="name of a recipe, see `harope recipes`")
    parser.add_argument(
        "--arms",
        required=True,
        nargs="+",
        metavar="ARM",
        help="encodings to compare, optionally with options: axial harope harope:per_head=false "
        "axial:model.qk_norm=true harope:model.qk_norm=true; among arms with the same settings "
        "outside the encoding, the first is the baseline of the others",
    )
    parser.add_argument("--seeds", default="0,1,2", help="seeds of each arm; at least two")
    parser.add_argument(
        "--controls",
        default="wide,rates",
        help="controls of each baseline, or none; wide: as many parameters as the other arms, in "
        "wider MLPs; rates: other learning rates of the query and key projections",
    )
    parser.add_argument(
        "--rates",
        help="multipliers of the learning rate for the control `rates` (default: 0.5,2,4, or 0.5,2 "
        "with --quick or --smoke)",
    )
    _add_scoring_arguments(parser)
    _add_execution_arguments(parser)
    parser.usage = (
        "harope compare RECIPE --arms A B [...] [--seeds 0,1,2] [--controls wide,rates] "
        "[--rates 0.5,2,4] [--samples N] [--reference REF] [--workers N] [--nice N] "
        "[--quick | --smoke] [--out DIR] [--FIELD VALUE ...]"
    )
    parser.epilog = f"{parser.epilog}\n\nall fields of a recipe:\n  harope compare RECIPE --help"
    parser.set_defaults(takes_fields=True)


def _add_scoring_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--samples",
        type=int,
        help="number of samples to score per run (default: 300, or 120 with --quick)",
    )
    parser.add_argument(
        "--reference",
        help="reference of a Fréchet distance: folder of images or .npz (default: no distance; "
        "samples of scenes are scored anyway)",
    )
    parser.add_argument(
        "--extractor",
        choices=("inception", "dinov2", "lite0"),
        default="inception",
        help="feature extractor of the Fréchet distance",
    )
    parser.add_argument(
        "--extractor-weights", help="weights of the extractor, see `harope evaluate --help`"
    )
    parser.add_argument("--vae", help="AutoencoderKL that decodes latents: folder or hub id")


def _add_execution_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers", type=int, help="number of runs in parallel (default: one per GPU or CPU core)"
    )
    parser.add_argument(
        "--nice",
        type=int,
        default=0,
        help="niceness of the runs, 0 to 19; at 19 they only use idle CPU time",
    )
    parser.add_argument(
        "--quick",
        action="store_true",
        help="train a sixteenth of the steps with half of the batch size",
    )
    parser.add_argument(
        "--smoke", action="store_true", help="take seconds: tiny models on synthetic data"
    )
    parser.add_argument(
        "--out",
        type=Path,
        help="folder of the comparison, which resumes if it exists (default: runs/compare-RECIPE)",
    )


def run(options: argparse.Namespace) -> None:
    """Run the comparison, and print its tables and the path of the page.

    Args:
        options: Parsed arguments; `fields` has those of the configuration.

    Raises:
        ValueError: An argument or a field is invalid, or runs failed.
    """
    from harope.lab.experiments.compare.main import run_comparison
    from harope.lab.experiments.compare.plan import CompareConfig, quick_config
    from harope.lab.experiments.compare.tables import difference_rows, interpretation, mean_rows
    from harope.lab.recipes import get_recipe
    from harope.lab.reporting.tables import text_table

    if options.quick and options.smoke:
        raise ValueError("--quick and --smoke are both given; choose one")
    recipe, brief = get_recipe(options.recipe), options.quick or options.smoke
    out = options.out or Path("runs") / f"compare-{recipe.name}{_suffix(options)}"
    controls = _controls(options.controls)
    rates = options.rates or ("0.5,2" if brief else "0.5,2,4")
    config = CompareConfig(
        arms=tuple(options.arms),
        seeds=parse_list("--seeds", options.seeds, int, "0,1,2"),
        wide="wide" in controls,
        rates=parse_list("--rates", rates, float, "0.5,2") if "rates" in controls else (),
        scoring=_scoring(options),
        workers=options.workers,
        nice=options.nice,
    )
    base = recipe.smoke(out.with_name(f"{out.name}-data")) if options.smoke else recipe.config()
    base = changed_config(quick_config(base) if options.quick else base, options.fields)
    if recipe.prepare is not None and not options.smoke:
        recipe.prepare(base)
    comparison = run_comparison(config, base, out, lambda line: print(line, flush=True))
    print(f"\n{text_table(mean_rows(comparison))}\n\n{text_table(difference_rows(comparison))}\n")
    print("\n".join(interpretation(comparison)))
    print(f"page: {out / 'report.html'}")


def _scoring(options: argparse.Namespace) -> "SampleScoreConfig":
    from harope.lab.experiments.compare.sample_scores import SampleScoreConfig

    default = 6 if options.smoke else 120 if options.quick else 300
    return SampleScoreConfig(
        samples=default if options.samples is None else options.samples,
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
        raise ValueError(
            f"--controls {text!r} must be none, or a comma-separated list of {', '.join(CONTROLS)}"
        )
    return names
