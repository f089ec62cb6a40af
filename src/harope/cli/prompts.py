"""The part of `harope sample` that draws from prompts."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harope.lab.sampling.pipelines import PipelineOptions
    from harope.lab.sampling.prompt_folder import Layout, PromptPlan
    from harope.lab.sampling.prompts import PromptRequest
    from harope.lab.sampling.text_to_image_runs import RunOptions

FORMS = "--geneval, --dpg, --prompts or --scenes-prompts"
ONLY_PROMPTS = ("samples_per_prompt", "text_length", "encoding", "lora")
ONLY_CLASSES = ("count", "labels", "num_heads", "npz")
ONLY_PIPELINES = ("text_length", "encoding", "lora")
ONLY_RUNS = ("weights", "sampler", "guidance_channels", "scaling", "vae")
BOTH = ("num_steps", "guidance", "height", "width")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which prompts, for which scorer, by which additions to a pipeline."""
    group = parser.add_argument_group(
        "prompts, by a text-to-image run or a folder of a diffusers text-to-image pipeline"
    )
    form = group.add_mutually_exclusive_group()
    form.add_argument(
        "--geneval", type=Path, metavar="JSONL", help="GenEval's evaluation_metadata.jsonl"
    )
    form.add_argument("--dpg", type=Path, metavar="FOLDER", help="DPG-Bench's prompts/*.txt")
    form.add_argument("--prompts", type=Path, metavar="FILE", help="a text, one prompt per line")
    form.add_argument(
        "--scenes-prompts", type=int, metavar="N", help="N of each task, for `evaluate scenes`"
    )
    group.add_argument(
        "--samples-per-prompt", type=int, help="pictures of each (4 for --geneval and --dpg, or 1)"
    )
    group.add_argument("--text-length", type=int, help="tokens of a prompt (the pipeline's)")
    group.add_argument(
        "--encoding", type=Path, help="trained encoding for the pipeline's transformer"
    )
    group.add_argument("--lora", type=Path, help="LoRA weights for it")


def given(options: argparse.Namespace) -> bool:
    """Whether prompts are asked for. Raises ValueError for options of the other way."""
    forms = (options.geneval, options.dpg, options.prompts, options.scenes_prompts)
    chosen = any(form is not None for form in forms)
    if chosen:
        _refuse(options, ONLY_CLASSES, "for runs, not for prompts")
    else:
        _refuse(options, ONLY_PROMPTS, f"for {FORMS}")
    return chosen


def run(options: argparse.Namespace) -> None:
    """Draw what is missing, and print where it is."""
    from harope._utils.distributed import this_process
    from harope.lab.sampling.generators import load_text_generator
    from harope.lab.sampling.prompt_folder import sample_prompts

    changes = _changes(options)
    plan, layout = _plan(options)
    state = this_process()
    generator = load_text_generator(options.checkpoint, changes, state.device)
    sample_prompts(
        generator.draw,
        plan,
        layout,
        options.out,
        made_by=generator.describe(),
        rank=state.process_index,
        world_size=state.num_processes,
        quiet=options.quiet,
    )
    state.wait_for_everyone()
    if state.is_main_process:
        _finish(options, plan, layout)


def _refuse(options: argparse.Namespace, names: tuple[str, ...], way: str) -> None:
    for name in names:
        if getattr(options, name) is not None:
            raise ValueError(f"--{name.replace('_', '-')} is {way}: leave it out")


def _changes(options: argparse.Namespace) -> "PipelineOptions | RunOptions":
    """What to change in how the pipeline, or the run, draws."""
    from harope.lab.sampling.pipelines import PipelineOptions, is_pipeline
    from harope.lab.sampling.text_to_image_runs import RunOptions

    if is_pipeline(options.checkpoint):
        _refuse(options, ONLY_RUNS, "for runs, not for pipelines")
        return PipelineOptions(**_given(options, *BOTH, *ONLY_PIPELINES))
    _refuse(options, ONLY_PIPELINES, "for pipelines, not for runs")
    return RunOptions(**_given(options, *BOTH, *ONLY_RUNS))


def _given(options: argparse.Namespace, *names: str) -> dict[str, Any]:
    values = {name: getattr(options, name) for name in names}
    return {name: value for name, value in values.items() if value is not None}


def _plan(options: argparse.Namespace) -> "tuple[PromptPlan, Layout]":
    from harope.lab.sampling.pipelines import is_pipeline
    from harope.lab.sampling.prompt_folder import PromptPlan

    requests, layout, count = _form(options)
    samples = count if options.samples_per_prompt is None else options.samples_per_prompt
    plan = PromptPlan(
        requests=requests,
        samples_per_prompt=samples,
        first_seed=options.first_seed,
        batch_size=options.batch_size or (4 if is_pipeline(options.checkpoint) else 64),
    )
    return plan, layout


def _form(options: argparse.Namespace) -> "tuple[tuple[PromptRequest, ...], Layout, int]":
    """Requests, where their pictures go, and how many of each are usual."""
    from harope.lab.evals.dpg.folders import DPGFolder
    from harope.lab.evals.dpg.prompts import read_dpg
    from harope.lab.evals.geneval.folders import GenEvalFolder
    from harope.lab.evals.geneval.prompts import read_geneval
    from harope.lab.evals.scenes import scenes_requests
    from harope.lab.sampling.prompt_folder import PlainLayout
    from harope.lab.sampling.prompts import read_prompts

    if options.geneval:
        return read_geneval(options.geneval), GenEvalFolder(), 4
    if options.dpg:
        return read_dpg(options.dpg), DPGFolder(), 4
    if options.prompts:
        return read_prompts(options.prompts), PlainLayout(), 1
    return scenes_requests(options.scenes_prompts), PlainLayout(), 1


def _finish(options: argparse.Namespace, plan: "PromptPlan", layout: "Layout") -> None:
    from harope.lab.reporting.images import write_image_grid
    from harope.lab.sampling.prompt_folder import whole_folder

    pictures = whole_folder(plan, layout, options.out)
    print(f"{len(pictures)} pictures of {len(plan.requests)} prompts in {options.out}")
    if options.grid:
        write_image_grid(pictures[:64], options.grid)
        print(f"grid: {options.grid}")
