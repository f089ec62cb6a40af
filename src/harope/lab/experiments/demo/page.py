"""Page of the demo."""

from collections.abc import Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from harope.lab.evals.scenes import rendered_scores, scene_labels
from harope.lab.experiments.demo.config import DemoConfig
from harope.lab.experiments.demo.parts import PARTS, SIZE, picture_path
from harope.lab.experiments.demo.results import (
    Costs,
    Digits,
    Heads,
    Matrices,
    Pictures,
    ReleasedScores,
)
from harope.lab.metrics.intervals import Mean, Scores, format_mean
from harope.lab.reporting.conclusions import describe_overlap
from harope.lab.reporting.html import Section, write_page
from harope.lab.reporting.plots import plot_scores
from harope.lab.reporting.tables import format_proportion
from harope.lab.training.task import grid_path

TASKS = {
    "single_object": "one object: right kind",
    "colors": "one object: right kind and colour",
    "single_exact": "one object: and nothing else",
    "counting": "several objects: right number",
    "exact": "all pictures: everything right",
}
"""Meaning of each score on the page."""

NAMES = {"axial": "RoPE (axial)", "harope-v1": "HARoPE (arXiv v1)"}
"""Names of the released models on the page."""

THREE_LINES = """harope.install(model)  # outputs stay
train(model)           # as before
harope.fold(model)     # A into weights"""

COMMANDS = """harope sample {out}/harope --count 60 --out {out}/more --grid {out}/more.png
harope inspect {out}/harope --out {out}/heads
harope train digits-dit --encoding harope --out runs/digits
harope compare digits-vit --arms axial harope --seeds 0,1,2 --out runs/compare"""


def write_demo_page(
    results: Mapping[str, Any],
    config: DemoConfig,
    out: Path,
    page: Path,
    *,
    seconds: Mapping[str, float],
    memory_gib: float | None,
) -> Path:
    """Write the page with its plot of scores.

    Args:
        results: Result of each part, by its name in `PARTS`.
        config: Options of the demo.
        out: Folder of the demo, with its images.
        page: HTML file to write.
        seconds: Duration of each part in seconds.
        memory_gib: Peak memory of the demo in GiB; None if unknown.

    Returns:
        Path of the page.
    """
    pictures: Pictures = results["pictures"]
    matrices: Matrices = results["matrices"]
    costs: Costs = results["costs"]
    return write_page(
        "HARoPE in three minutes",
        f"HARoPE gives every attention head of a transformer its own learned matrix A in front of "
        f"RoPE, the rotation that tells the head where each token stands. "
        f"{_conclusion(pictures, costs)}",
        [
            _picture_section(pictures, matrices, config, out),
            Section(
                title="Three lines of code",
                text=(
                    "For models of timm and diffusers, and harope.DiT. Train all weights as "
                    "before, or only harope.encoding_parameters(model), as this demo does.",
                ),
                code=THREE_LINES,
            ),
            _head_section(results["heads"], matrices, config, out),
            _cost_section(costs),
            _digit_section(results["digits"], out),
            _score_section(results["scores"], config, out),
            _summary_section(seconds, memory_gib, out),
        ],
        page,
    )


def _conclusion(pictures: Pictures, costs: Costs) -> str:
    same = (
        "changed no bit of its pictures"
        if pictures.identical
        else "changed its pictures by rounding errors"
    )
    return (
        f"Installed in a trained model it {same}; after a short training it was folded into the "
        f"weights, and costs what RoPE costs: {1e3 * costs.median('folded'):.0f} ms for a forward "
        f"pass, with RoPE {1e3 * costs.median('rope'):.0f} ms (medians). This page shows how "
        f"HARoPE works; one training with one seed is no evidence that it is better."
    )


def _picture_section(
    pictures: Pictures, matrices: Matrices, config: DemoConfig, out: Path
) -> Section:
    equal = "equal bit for bit" if pictures.identical else "equal up to rounding"
    captions = {
        "rope": "1. RoPE: a released model",
        "installed": f"2. HARoPE installed (A = I): {equal}",
        "folded": f"3. HARoPE after {config.steps} steps, folded",
    }
    before, share = matrices.loss_before, 100 / matrices.loss_before
    change = Mean(*(share * end for end in astuple(matrices.difference)))
    return Section(
        title="The same pictures",
        text=("The same requests, such as three blue squares, from the same noise.",),
        images=tuple((text, picture_path(out, name)) for name, text in captions.items()),
        zoom=1,
        notes=(
            f"1: a small diffusion transformer, which turns noise into pictures step by step. It "
            f"has RoPE (rotary position embedding): queries and keys of the attention are rotated "
            f"by angles proportional to the row and the column of their token. 2: HARoPE in the "
            f"same model, with A = I, the identity matrix. All values of all pictures were "
            f"compared with those of 1. 3: after {config.steps} training steps of A, "
            f"{matrices.parameters:,} of {matrices.all_parameters:,} parameters, with all other "
            f"weights as they were.",
            f"On {config.held_out} scenes that were not trained on, the loss (mean squared error "
            f"of the model's predictions) was {before:.4f} before and {matrices.loss_after:.4f} "
            f"after the training of A: {format_mean(change, '+.1f')} %, with a 95 % interval "
            f"over the scenes. {_verdict(change)}",
        ),
    )


def _verdict(change: Mean) -> str:
    if not change.excludes_zero:
        return "The interval contains 0: A changed, but the loss did not change measurably."
    return f"The interval excludes 0: the loss {'fell' if change.value < 0 else 'rose'}."


def _head_section(heads: Heads, matrices: Matrices, config: DemoConfig, out: Path) -> Section:
    rows = [("mean distance of attention", "RoPE, tokens", "HARoPE, tokens")]
    rows += [
        (f"layer {head.layer}, head {head.head}", f"{head.before:.2f}", f"{head.after:.2f}")
        for head in heads.shown
    ]
    return Section(
        title="Where the heads look, before and after",
        text=(
            f"How much attention a token pays to others by their offset from it (the middle is "
            f"the token itself), as a multiple of equal attention to all: orange more, purple "
            f"less. These are the {len(heads.shown)} heads that changed most; the last row is the "
            f"second divided by the first.",
        ),
        images=(("Attention by offset: RoPE, HARoPE, and HARoPE over RoPE", out / "heads.svg"),),
        table=tuple(rows),
        notes=(
            f"Mean over {config.images} scenes, half of whose signal is noise. With RoPE all heads "
            f"share one rotation; with HARoPE each has its own. The matrices differ from I by "
            f"{100 * matrices.distance:.0f} % of its norm, and the mean distance of attention "
            f"changed by {heads.moved:.2f} tokens (medians over the heads). This model had "
            f"finished its training, so that little was left to change; harope inspect shows all "
            f"heads.",
        ),
    )


def _cost_section(costs: Costs) -> Section:
    names = {
        "rope": "RoPE",
        "harope": "HARoPE, not folded",
        "folded": "HARoPE, folded",
    }
    rows = [("model", "fastest", "median", "times RoPE, median (quartiles)")]
    for key, name in names.items():
        low, middle, high = costs.ratios(key)
        rows.append(
            (
                name,
                f"{1e3 * min(costs.seconds[key]):.0f} ms",
                f"{1e3 * costs.median(key):.0f} ms",
                f"{middle:.2f} ({low:.2f} to {high:.2f})",
            )
        )
    outputs = (
        f"the outputs differ by rounding, at most {costs.rounding:.0e}"
        if costs.rounding
        else "the outputs are equal bit for bit"
    )
    return Section(
        title="What it costs",
        text=(
            f"One forward pass of {costs.batch_size} pictures, measured in "
            f"{len(costs.seconds['rope'])} turns on this machine.",
        ),
        table=tuple(rows),
        notes=(
            f"Folding multiplies A into the projections of queries and keys, so that nothing is "
            f"left to compute; {outputs}. Other programs on the machine make the times vary; the "
            f"fastest are least disturbed.",
        ),
    )


def _digit_section(digits: Digits, out: Path) -> Section:
    moments = zip(digits.steps, digits.seconds, digits.losses, strict=True)
    return Section(
        title="Learning digits from nothing",
        text=(
            f"A new model with HARoPE and {digits.parameters:,} parameters learns scikit-learn's "
            f"1,797 handwritten digits of 8 x 8 pixels in {digits.seconds[-1]:.0f} seconds. The "
            f"samples are of the digits 0 to 9, each time from the same noise.",
        ),
        images=tuple(
            (f"{seconds:.0f} s: step {step}, loss {loss:.2f}", grid_path(out / "digits", step))
            for step, seconds, loss in moments
        ),
        zoom=2,
    )


def _score_section(scores: ReleasedScores, config: DemoConfig, out: Path) -> Section:
    labels = scene_labels(config.rounds)
    columns = {NAMES[encoding]: _by_meaning(found) for encoding, found in scores.columns.items()}
    verdict = describe_overlap(columns)
    columns["drawn scenes"] = _by_meaning(rendered_scores(list(labels), SIZE))
    plot_scores(columns, out / "scores.svg")
    rows = [("pictures", *columns)]
    for meaning in TASKS.values():
        cells = [format_proportion(found[meaning], total=False) for found in columns.values()]
        rows.append((f"{meaning} ({next(iter(columns.values()))[meaning].total})", *cells))
    return Section(
        title="Two released models, scored",
        text=(
            f"Two models that come with the package, trained for an hour each on the same scenes. "
            f"A program that reads scenes judged {len(labels)} pictures of each. "
            f"{verdict}",
        ),
        images=(("Success rates with 95 % intervals", out / "scores.svg"),),
        table=tuple(rows),
        notes=(
            "HARoPE is here that of the first arXiv version. Drawn scenes are correct: they show "
            "where the program errs. The intervals (Wilson's) cover which pictures were sampled, "
            "not another training: each model was trained once, with one seed, so a difference is "
            "no evidence for either. harope compare answers that question, with several seeds.",
        ),
    )


def _by_meaning(scores: Scores) -> Scores:
    return {meaning: scores[task] for task, meaning in TASKS.items()}


def _summary_section(seconds: Mapping[str, float], memory_gib: float | None, out: Path) -> Section:
    rows = [("part", "seconds")]
    rows += [(part.title, f"{seconds[name]:.0f}") for name, part in PARTS.items()]
    memory = "" if memory_gib is None else f" and needed {memory_gib:.1f} GiB of memory"
    return Section(
        title="What was done, and what comes next",
        text=(
            f"The demo took {sum(seconds.values()):.0f} seconds on this machine{memory}, without "
            f"a GPU. The model with its matrices is in {out}/harope, the folded one in "
            f"{out}/folded. The commands below go on from here.",
        ),
        table=tuple(rows),
        code=COMMANDS.format(out=out),
    )
