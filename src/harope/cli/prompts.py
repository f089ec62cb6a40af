"""The part of `harope sample` that draws from prompts."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from harope.generation.prompt_folder import Layout, PromptPlan
    from harope.generation.prompts import PromptRequest

BATCH_SIZE = 4
ONLY_PROMPTS = ("samples_per_prompt", "text_length", "encoding", "lora")
ONLY_CLASSES = (
    "count", "labels", "weights", "sampler", "guidance_channels", "scaling", "vae", "num_heads",
)  # fmt: skip


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which prompts, for which scorer, by which additions to a pipeline."""
    group = parser.add_argument_group("prompts, by a folder of a diffusers text-to-image pipeline")
    form = group.add_mutually_exclusive_group()
    form.add_argument(
        "--geneval", type=Path, metavar="JSONL", help="GenEval's evaluation_metadata.jsonl"
    )
    form.add_argument("--dpg", type=Path, metavar="FOLDER", help="DPG-Bench's prompts/*.txt")
    form.add_argument("--prompts", type=Path, metavar="FILE", help="a text, one prompt per line")
    group.add_argument(
        "--samples-per-prompt", type=int, help="pictures of each (4; 1 with --prompts)"
    )
    group.add_argument("--text-length", type=int, help="tokens of a prompt (the pipeline's)")
    group.add_argument("--encoding", type=Path, help="trained encoding for its transformer")
    group.add_argument("--lora", type=Path, help="LoRA weights to load")


def given(options: argparse.Namespace) -> bool:
    """Whether prompts are asked for. Raises ValueError for options of the other way."""
    chosen = bool(options.geneval or options.dpg or options.prompts)
    for name in ONLY_CLASSES if chosen else ONLY_PROMPTS:
        if getattr(options, name) is not None:
            way = "for runs, not for prompts" if chosen else "for --geneval, --dpg or --prompts"
            raise ValueError(f"--{name.replace('_', '-')} is {way}: leave it out")
    return chosen


def run(options: argparse.Namespace) -> None:
    """Draw what is missing, and print where it is."""
    from accelerate import PartialState

    from harope.generation.pipeline import PipelineOptions
    from harope.generation.prompt_folder import sample_prompts
    from harope.generation.text import load_text_generator

    plan, layout = _plan(options)
    names = ("num_steps", "guidance", "height", "width", "text_length", "encoding", "lora")
    changes = PipelineOptions(**{name: getattr(options, name) for name in names})
    state = PartialState()
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


def _plan(options: argparse.Namespace) -> "tuple[PromptPlan, Layout]":
    from harope.generation.prompt_folder import PromptPlan

    requests, layout, count = _form(options)
    samples = count if options.samples_per_prompt is None else options.samples_per_prompt
    plan = PromptPlan(
        requests=requests,
        samples_per_prompt=samples,
        first_seed=options.first_seed,
        batch_size=BATCH_SIZE if options.batch_size is None else options.batch_size,
    )
    return plan, layout


def _form(options: argparse.Namespace) -> "tuple[tuple[PromptRequest, ...], Layout, int]":
    """Requests, where their pictures go, and how many of each are usual."""
    from harope.generation.dpg import DPGLayout
    from harope.generation.geneval import GenEvalLayout
    from harope.generation.prompt_folder import PlainLayout
    from harope.generation.prompts import read_dpg, read_geneval, read_prompts

    if options.geneval:
        return read_geneval(options.geneval), GenEvalLayout(), 4
    if options.dpg:
        return read_dpg(options.dpg), DPGLayout(), 4
    return read_prompts(options.prompts), PlainLayout(), 1


def _finish(options: argparse.Namespace, plan: "PromptPlan", layout: "Layout") -> None:
    from harope.generation.prompt_folder import whole_folder
    from harope.report.pictures import grid_of_files

    pictures = whole_folder(plan, layout, options.out)
    print(f"{len(pictures)} pictures of {len(plan.requests)} prompts in {options.out}")
    if options.grid:
        grid_of_files(pictures[:64], options.grid)
        print(f"grid: {options.grid}")
