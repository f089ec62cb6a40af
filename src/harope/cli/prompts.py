"""The part of `harope sample` that samples from prompts."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from harope.cli.parsers import given_options

if TYPE_CHECKING:
    from harope.lab.sampling.pipelines import PipelineOptions
    from harope.lab.sampling.prompt_folder import FolderFormat, PromptPlan
    from harope.lab.sampling.prompts import PromptRequest
    from harope.lab.sampling.runs import RunOptions

PROMPT_OPTIONS = "--prompt, --prompts, --geneval, --dpg or --scenes-prompts"
"""Options that select prompts."""
ONLY_PROMPTS = ("samples_per_prompt", "text_length", "encoding", "lora")
"""Options that require prompts."""
ONLY_CLASSES = ("count", "labels", "num_heads", "npz")
"""Options that exclude prompts."""
ONLY_PIPELINES = ("text_length", "encoding", "lora")
"""Options of diffusers pipelines."""
ONLY_RUNS = ("weights", "sampler", "guidance_channels", "scaling", "vae", "precision")
"""Options of runs."""
BOTH = ("num_steps", "guidance", "height", "width")
"""Options of pipelines and runs."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of sampling from prompts.

    Args:
        parser: Parser of the command.
    """
    group = parser.add_argument_group(
        "prompts",
        "Sample from prompts, by a text-to-image run or a folder of a diffusers pipeline.",
    )
    source = group.add_mutually_exclusive_group()
    source.add_argument(
        "--prompt",
        action="append",
        metavar="TEXT",
        help='a prompt, such as "a red circle"; repeatable',
    )
    source.add_argument(
        "--geneval", type=Path, metavar="JSONL", help="evaluation_metadata.jsonl of GenEval"
    )
    source.add_argument(
        "--dpg", type=Path, metavar="FOLDER", help="folder of DPG-Bench's prompts, *.txt"
    )
    source.add_argument(
        "--prompts", type=Path, metavar="FILE", help="text file with one prompt per line"
    )
    source.add_argument(
        "--scenes-prompts",
        type=int,
        metavar="N",
        help="number of prompts of each task of the scenes, for `harope evaluate scenes`",
    )
    group.add_argument(
        "--samples-per-prompt",
        type=int,
        help="number of samples of each prompt (default: 4 for --geneval and --dpg, otherwise 1)",
    )
    group.add_argument(
        "--text-length",
        type=int,
        help="number of tokens of an encoded prompt (default: that of the pipeline)",
    )
    group.add_argument(
        "--encoding", type=Path, help="trained encoding for the transformer of the pipeline"
    )
    group.add_argument("--lora", type=Path, help="LoRA weights for the transformer of the pipeline")


def has_prompts(options: argparse.Namespace) -> bool:
    """Tell whether to sample from prompts instead of classes.

    Args:
        options: Options of the command.

    Returns:
        Whether an option selects prompts.

    Raises:
        ValueError: An option does not apply to the kind of sampling.
    """
    sources = (
        options.prompt,
        options.prompts,
        options.geneval,
        options.dpg,
        options.scenes_prompts,
    )
    selected = any(source is not None for source in sources)
    if selected:
        _refuse(options, ONLY_CLASSES, "does not apply to prompts")
    else:
        _refuse(options, ONLY_PROMPTS, f"requires {PROMPT_OPTIONS}")
    return selected


def run(options: argparse.Namespace) -> None:
    """Generate the samples that are missing, and print where they are.

    Args:
        options: Options of the command.
    """
    from harope._utils.distributed import this_process, wait_for_everyone, workers
    from harope.lab.sampling.generators import load_text_to_image_generator
    from harope.lab.sampling.prompt_folder import sample_prompts

    changes = _changes(options)
    plan, layout = _plan(options)
    state = this_process()
    generator = load_text_to_image_generator(options.checkpoint, changes, state.device)
    sample_prompts(
        generator.generate,
        plan,
        layout,
        options.out,
        made_by=generator.describe(),
        overwrite=options.overwrite,
        workers=workers(),
        quiet=options.quiet,
    )
    wait_for_everyone()
    if state.is_main_process:
        _finish(options, plan, layout)


def _refuse(options: argparse.Namespace, names: tuple[str, ...], reason: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} {reason}; omit it")


def _changes(options: argparse.Namespace) -> "PipelineOptions | RunOptions":
    """Return the options that change how the pipeline, or the run, is sampled."""
    from harope.lab.sampling.pipelines import PipelineOptions, is_pipeline
    from harope.lab.sampling.runs import RunOptions

    if is_pipeline(options.checkpoint):
        _refuse(options, ONLY_RUNS, "applies to runs, but the checkpoint is a pipeline")
        return PipelineOptions(**given_options(options, *BOTH, *ONLY_PIPELINES))
    _refuse(options, ONLY_PIPELINES, "applies to pipelines, but the checkpoint is a run")
    return RunOptions(**given_options(options, *BOTH, *ONLY_RUNS))


def _plan(options: argparse.Namespace) -> "tuple[PromptPlan, FolderFormat]":
    from harope.lab.sampling.pipelines import is_pipeline
    from harope.lab.sampling.prompt_folder import PromptPlan

    requests, layout, count = _requests(options)
    samples = count if options.samples_per_prompt is None else options.samples_per_prompt
    default_batch = 4 if is_pipeline(options.checkpoint) else 64
    plan = PromptPlan(
        requests=requests,
        samples_per_prompt=samples,
        first_seed=options.seed,
        batch_size=default_batch if options.batch_size is None else options.batch_size,
    )
    return plan, layout


def _requests(options: argparse.Namespace) -> "tuple[tuple[PromptRequest, ...], FolderFormat, int]":
    """Return the prompts, the format of their folder, and the default number of samples of each."""
    from harope.lab.evals.dpg.folders import DPGFolder
    from harope.lab.evals.dpg.prompts import read_dpg
    from harope.lab.evals.geneval.folders import GenEvalFolder
    from harope.lab.evals.geneval.prompts import read_geneval
    from harope.lab.evals.scenes import scenes_requests
    from harope.lab.sampling.prompt_folder import FlatFolder
    from harope.lab.sampling.prompts import prompt_requests, read_prompts

    if options.prompt:
        return prompt_requests(options.prompt, "--prompt"), FlatFolder(), 1
    if options.geneval:
        return read_geneval(options.geneval), GenEvalFolder(), 4
    if options.dpg:
        return read_dpg(options.dpg), DPGFolder(), 4
    if options.prompts:
        return read_prompts(options.prompts), FlatFolder(), 1
    return scenes_requests(options.scenes_prompts), FlatFolder(), 1


def _finish(options: argparse.Namespace, plan: "PromptPlan", layout: "FolderFormat") -> None:
    from harope.lab.reporting.images import write_image_grid
    from harope.lab.sampling.prompt_folder import read_complete_folder

    images = read_complete_folder(plan, layout, options.out)
    print(f"{len(images)} images of {len(plan.requests)} prompts in {options.out}")
    if options.grid:
        write_image_grid(images[:64], options.grid)
        print(f"grid: {options.grid}")
