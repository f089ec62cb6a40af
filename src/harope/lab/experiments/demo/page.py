"""Page of the demo."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harope.lab.evals.scenes import rendered_scores, scene_labels
from harope.lab.experiments.demo.config import DemoConfig
from harope.lab.experiments.demo.parts import (
    PARTS,
    SIZE,
    Costs,
    Digits,
    Heads,
    Matrices,
    Pictures,
    ReleasedScores,
    picture_path,
)
from harope.lab.metrics.intervals import Mean, Scores, format_mean
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

THREE_LINES = """model = harope.install(model, "harope")    # A = I: the model computes what it did
parameters = harope.encoding_parameters(model)    # train these, or all weights as usual
model = harope.fold(model)    # A is multiplied into the weights: a RoPE model again"""

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
        f"HARoPE (head-wise adaptive rotary position embedding) puts a learned matrix A in front "
        f"of the rotation that tells each attention head of a transformer where a token stands, so "
        f"that every head chooses what it does with positions. {_conclusion(pictures, costs)}",
        [
            _picture_section(pictures, matrices, config, out),
            Section(
                title="Three lines of code",
                text=(
                    "For models of timm and diffusers, and harope.DiT. Between the first and the "
                    "last line the model is trained as usual.",
                ),
                code=THREE_LINES,
            ),
            _head_section(results["heads"], matrices, config, out),
            _cost_section(costs, matrices),
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
    ratio = costs.median("folded") / costs.median("rope")
    return (
        f"What to conclude: put into a trained model, HARoPE {same}; a short training of A alone "
        f"changed where heads look and left the pictures as good; folded into the weights, the "
        f"model took {ratio:.2f} times RoPE's time. One training with one seed is no evidence that "
        f"HARoPE is better than RoPE, and nothing on this page claims it."
    )


def _picture_section(
    pictures: Pictures, matrices: Matrices, config: DemoConfig, out: Path
) -> Section:
    equal = (
        "equal bit for bit (all values of all pictures were compared)"
        if pictures.identical
        else "equal up to rounding on this machine"
    )
    captions = {
        "rope": "1. RoPE: the released model",
        "installed": f"2. HARoPE installed, A = I: {equal.partition(' (')[0]}",
        "folded": f"3. HARoPE after {config.steps} steps, folded",
    }
    loss = format_mean(matrices.difference, "+.5f")
    verdict = _verdict(matrices.difference, "the loss")
    return Section(
        title="The same pictures",
        text=(
            f"Pictures from the same noise for the same requests, such as three blue squares. "
            f"Left: a small diffusion transformer, which turns noise into pictures step by step, "
            f"with RoPE, rotary position embedding: queries and keys of the attention are rotated "
            f"by angles proportional to the row and column of their token. Middle: HARoPE in the "
            f"same model, with A = I, the identity matrix; the pictures are {equal}. Right: after "
            f"{config.steps} training steps of A, {matrices.parameters:,} of "
            f"{matrices.all_parameters:,} parameters, with all other weights as they were.",
            f"On {config.held_out} scenes that were not trained on, the loss went from "
            f"{matrices.loss_before:.5f} to {matrices.loss_after:.5f}: {loss}, the mean difference "
            f"with its 95 % interval over the scenes. {verdict}",
        ),
        images=tuple((text, picture_path(out, name)) for name, text in captions.items()),
        zoom=1,
    )


def _verdict(difference: Mean, subject: str) -> str:
    if not difference.excludes_zero:
        return f"The interval contains 0, so {subject} did not change measurably."
    return f"The interval excludes 0: {subject} {'fell' if difference.value < 0 else 'rose'}."


def _head_section(heads: Heads, matrices: Matrices, config: DemoConfig, out: Path) -> Section:
    rows = [("head", "RoPE, tokens", "HARoPE, tokens")]
    rows += [
        (f"layer {head.layer}, head {head.head}", f"{head.before:.2f}", f"{head.after:.2f}")
        for head in heads.shown
    ]
    return Section(
        title="Where the heads look, before and after",
        text=(
            f"The {len(heads.shown)} heads whose attention changed most. Each map shows how much "
            f"attention a token pays to others by their offset (middle: to itself), as a multiple "
            f"of equal attention to all: orange more, purple less. Mean over {config.images} "
            f"scenes, half of whose signal is noise. With RoPE all heads share one rotation; with "
            f"HARoPE each has its own.",
            f"The table shows the mean distance of attention. Over all heads, the median of its "
            f"change is {heads.moved:.2f} tokens, and half of the matrices differ from I by more "
            f"than {100 * matrices.distance:.0f} % of its norm.",
        ),
        images=(("Attention by offset, above with RoPE, below with HARoPE", out / "heads.svg"),),
        table=tuple(rows),
    )


def _cost_section(costs: Costs, matrices: Matrices) -> Section:
    base = costs.median("rope")
    names = {
        "rope": "RoPE",
        "harope": "HARoPE, as in training",
        "folded": "HARoPE, folded",
    }
    rows = [("model", "median", "fastest to slowest", "times RoPE")]
    for key, name in names.items():
        times = costs.seconds[key]
        rows.append(
            (
                name,
                f"{1e3 * costs.median(key):.0f} ms",
                f"{1e3 * min(times):.0f} to {1e3 * max(times):.0f} ms",
                f"{costs.median(key) / base:.2f}",
            )
        )
    return Section(
        title="What it costs",
        text=(
            f"One forward pass of {costs.batch_size} pictures, measured {len(times)} times in turns "
            f"on this machine. Folding multiplies A into the projections of queries and keys, so "
            f"that nothing is left to compute; the outputs differ by rounding, at most "
            f"{costs.rounding:.1e}.",
        ),
        table=tuple(rows),
    )


def _digit_section(digits: Digits, out: Path) -> Section:
    moments = zip(digits.steps, digits.seconds, digits.losses, strict=True)
    return Section(
        title="Learning digits from nothing",
        text=(
            f"A new model with HARoPE and {digits.parameters:,} parameters learns scikit-learn's "
            f"1,797 handwritten digits of 8 x 8 pixels, here within {digits.seconds[-1]:.0f} "
            f"seconds. All moments show the digits 0 to 9 from the same noise.",
        ),
        images=tuple(
            (f"step {step}, {seconds:.0f} s, loss {loss:.2f}", grid_path(out / "digits", step))
            for step, seconds, loss in moments
        ),
        zoom=2,
    )


def _score_section(scores: ReleasedScores, config: DemoConfig, out: Path) -> Section:
    labels = scene_labels(config.rounds)
    columns = {NAMES[encoding]: found for encoding, found in scores.columns.items()}
    columns["drawn scenes"] = rendered_scores(list(labels), SIZE)
    plot_scores(
        {
            name: {TASKS[task]: found[task] for task in TASKS if task in found}
            for name, found in columns.items()
        },
        out / "scores.svg",
    )
    rows = [("pictures", *columns)]
    for task, meaning in TASKS.items():
        cells = [format_proportion(found[task], total=False) for found in columns.values()]
        rows.append((f"{meaning} ({next(iter(columns.values()))[task].total})", *cells))
    return Section(
        title="Two released models, scored",
        text=(
            f"Two models of the package, trained for an hour each on the same data, with RoPE and "
            f"with HARoPE as in its first arXiv version. A program that reads scenes judged "
            f"{len(labels)} pictures of each; drawn scenes are correct, and show where the program "
            f"errs.",
            f"{_overlap(columns)} The 95 % intervals (Wilson's) cover which pictures were "
            f"sampled, not another training: each model was trained once, with one seed, so a "
            f"difference here is no evidence for either. `harope compare` is for that question.",
        ),
        images=(("Success rates with 95 % intervals", out / "scores.svg"),),
        table=tuple(rows),
    )


def _overlap(columns: Mapping[str, Scores]) -> str:
    first, second, *_ = columns.values()
    apart = [
        meaning
        for task, meaning in TASKS.items()
        if first[task].interval()[1] < second[task].interval()[0]
        or second[task].interval()[1] < first[task].interval()[0]
    ]
    if not apart:
        return "The intervals of the two models overlap in all rows."
    return f"The intervals of the two models do not overlap in: {'; '.join(apart)}."


def _summary_section(seconds: Mapping[str, float], memory_gib: float | None, out: Path) -> Section:
    rows = [("part", "seconds")]
    rows += [(title, f"{seconds[name]:.0f}") for name, (_, _, title) in PARTS.items()]
    rows.append(("all", f"{sum(seconds.values()):.0f}"))
    memory = "" if memory_gib is None else f" It needed {memory_gib:.1f} GiB of memory."
    return Section(
        title="What was done, and what comes next",
        text=(
            f"The demo ran on this machine without a GPU.{memory} The model with matrices is in "
            f"{out}/harope, the folded one in {out}/folded.",
        ),
        table=tuple(rows),
        code=COMMANDS.format(out=out),
    )
