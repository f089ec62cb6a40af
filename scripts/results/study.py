"""Tables and figures of docs/results/study.md, from the committed results of finished runs.

Nothing is trained or loaded but JSON: the page can be made again anywhere.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean

from scipy import stats

from harope.lab.reporting.tables import markdown_table
from scripts.results.page import PAGES
from scripts.results.study_data import (
    Difference,
    Result,
    Results,
    common_seeds,
    holm,
    load_results,
    paired_differences,
)
from scripts.results.study_figures import head_distances, plot_heads, plot_primary
from scripts.study.study import GPU_PARTS, PARTS, RESULTS, Part

GPU_RESULTS = Path("docs/results/study-gpu")
HEAD_PARTS = ("A", "B")
"""Parts whose heads are drawn."""
HEAD_TIME = "0.5"
"""Time of the diffusion, from 0 (image) to 1 (noise), at which heads are compared."""
REPLACEMENTS = {
    "rotation": "nearest rotation",
    "mean": "mean of the layer",
    "identity": "I",
}
"""What the matrices of a trained model are replaced by, and its title."""
BEGIN, END = "<!-- results: written by `make study-report` -->", "<!-- end of results -->"


def part_lines(part: Part, results: Path) -> list[str]:
    """Describe a part in Markdown: what is finished, and a table of means and paired differences.

    Args:
        part: Part of the study.
        results: Folder of results.

    Returns:
        Lines of Markdown.
    """
    found = load_results(part, results)
    count = sum(len(runs) for runs in found.values())
    total = len(part.all_arms) * len(part.seeds)
    lines = [f"### {part.key}. {part.title}", "", f"{count} of {total} runs are finished.", ""]
    baseline = part.all_arms[0].name
    if baseline not in found:
        return lines
    measures = list(next(iter(found[baseline].values()))["measures"])
    measures = [part.primary, *(name for name in measures if name != part.primary)]
    values = {name: _measure(name) for name in measures}
    arms = [arm.name for arm in part.all_arms if common_seeds(found, [arm.name, baseline])]
    primary = [
        Difference.of(list(paired_differences(found, arm, baseline, values[part.primary]).values()))
        for arm in arms[1:]
    ]
    corrected = [math.nan, *holm([difference.p for difference in primary])]
    rows = [("arm", "seeds", *measures, f"p of {part.primary}, Holm")]
    for arm, p in zip(arms, corrected, strict=True):
        seeds = ", ".join(map(str, common_seeds(found, [arm, baseline])))
        cells = [_cell(found, arm, baseline, values[name], _format(name)) for name in measures]
        rows.append((f"`{arm}`", seeds, *cells, "" if math.isnan(p) else f"{p:.3g}"))
    return [
        *lines,
        markdown_table(rows),
        "",
        f"First row: means over the seeds of `{baseline}`. Other rows: mean paired differences "
        "from it with Student's 95 % intervals, from two seeds on; shares are in points.",
        "",
        *_resolution_lines(found, arms),
        *_ablation_lines(found, arms),
        *_agreement_lines(found, arms),
    ]


def _resolution_lines(found: Results, arms: Sequence[str]) -> list[str]:
    """Return a table of top-1 accuracy at other image sizes, for every way to scale positions."""
    first = next(iter(found[arms[0]].values()))
    if "resolutions" not in first:
        return []
    lines = ["Top-1 accuracy at other sizes than the trained one, in pixels:", ""]
    sizes = list(dict.fromkeys(size for row in first["resolutions"].values() for size in row))
    rows = [("positions", "arm", *sizes)]
    for method, by_size in first["resolutions"].items():
        for arm in arms:
            # An encoding that cannot be scaled has no accuracy for the methods that scale.
            runs = found[arm].values()
            cells = [
                _cell(found, arm, arms[0], _resolution(method, size), _points)
                if size in by_size and all(method in run["resolutions"] for run in runs)
                else ""
                for size in sizes
            ]
            rows.append((method, f"`{arm}`", *cells))
    return [*lines, markdown_table(rows), ""]


def _ablation_lines(found: Results, arms: Sequence[str]) -> list[str]:
    """Return a table of the loss that trained models lose with other matrices in place of A."""
    rows = [("arm", "loss", *(f"A -> {title}" for title in REPLACEMENTS.values()))]
    for arm in arms:
        runs = [run["ablations"]["next_loss"] for run in found[arm].values() if run["ablations"]]
        if not runs:
            continue
        increases = [
            Difference.of([run[name] - run["learned"] for run in runs]) if name in runs[0] else None
            for name in REPLACEMENTS
        ]
        cells = ["" if d is None else _interval(d, _decimals) for d in increases]
        rows.append((f"`{arm}`", f"{fmean(run['learned'] for run in runs):.5f}", *cells))
    if len(rows) == 1:
        return []
    return [
        "The EMA loss of the trained models on 512 new images, and what it gains when every A is "
        "replaced without further training (mean over the seeds, 95 % interval):",
        "",
        markdown_table(rows),
        "",
    ]


def _agreement_lines(found: Results, arms: Sequence[str]) -> list[str]:
    """Return a table of how much heads differ, and whether they are the same at every seed."""
    rows = [
        ("arm", "standard deviation over the heads of a layer", "the same heads at two seeds (r)")
    ]
    for arm in arms:
        runs = list(found[arm].values())
        if any(HEAD_TIME not in run["heads"].get("attention_distance", {}) for run in runs):
            continue
        spread = _cell(found, arm, arms[0], _head_spread, "{:{sign}.3f}".format)
        rows.append((f"`{arm}`", spread, _agreement(runs)))
    if len(rows) == 1:
        return []
    return [
        f"Mean attention distance of heads at time {HEAD_TIME}, in tokens. The second column is "
        "the mean over layers, for other arms than the first as a paired difference. The third is "
        "Pearson's correlation over the heads of all layers between runs of two seeds, after "
        "the mean of each layer is subtracted: 0 if the index of a head means nothing.",
        "",
        markdown_table(rows),
        "",
    ]


def _agreement(runs: Sequence[Result]) -> str:
    centred = [
        [distance - fmean(heads) for heads in head_distances(run, HEAD_TIME) for distance in heads]
        for run in runs
    ]
    pairs = [stats.pearsonr(a, b).statistic for a, b in combinations(centred, 2)]
    return f"{fmean(pairs):+.2f}" if pairs else ""


def _head_spread(run: Result) -> float:
    return fmean(run["heads"]["attention_distance_std"][HEAD_TIME])


def _measure(name: str) -> Callable[[Result], float]:
    return lambda run: run["measures"][name]


def _resolution(method: str, size: str) -> Callable[[Result], float]:
    return lambda run: run["resolutions"][method][size]


def _cell(
    found: Results,
    arm: str,
    baseline: str,
    value: Callable[[Result], float],
    show: Callable[..., str],
) -> str:
    """Format the mean of the baseline, or the paired difference of another arm."""
    if arm == baseline:
        return show(fmean(value(run) for run in found[arm].values()), sign="")
    difference = Difference.of(list(paired_differences(found, arm, baseline, value).values()))
    return _interval(difference, show)


def _interval(difference: Difference, show: Callable[..., str]) -> str:
    """Format a mean with its interval, which one seed does not have."""
    mean, low, high = (
        show(value, sign="+") for value in (difference.mean, difference.low, difference.high)
    )
    return f"{mean} [{low}, {high}]" if math.isfinite(difference.low) else mean


def _format(measure: str) -> Callable[..., str]:
    """Return a function that formats a loss with five decimals, or a share in per cent."""
    return _decimals if measure.endswith("loss") else _points


def _decimals(value: float, sign: str) -> str:
    return f"{value:{sign}.5f}"


def _points(value: float, sign: str) -> str:
    return f"{100 * value:{sign}.1f}"


def write_study() -> None:
    """Write the results of the study into docs/results/study.md."""
    sections = [Section("On a CPU", "study", RESULTS, PARTS)]
    if GPU_RESULTS.exists():
        sections.insert(0, Section("On a GPU", "study-gpu", GPU_RESULTS, (*PARTS, *GPU_PARTS)))
    write_report(sections, PAGES / "study.md")
    print(PAGES / "study.md")


@dataclass(frozen=True)
class Section:
    """The results of one kind of device: runs are compared with runs on the same kind only."""

    title: str
    """Heading."""
    figures: str
    """Beginning of the names of its figures."""
    results: Path
    """Folder of its results."""
    parts: Sequence[Part]
    """Its parts, in order."""


def write_report(sections: Sequence[Section], page: Path) -> None:
    """Replace what stands between the two marks of a page by the results as they are now.

    Args:
        sections: What to report.
        page: Markdown file with the marks. Figures are written to its folder.

    Raises:
        ValueError: The page has no marks.
    """
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise ValueError(
            f"{page} has no lines {BEGIN!r} and {END!r}: put them where results belong"
        )
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = [BEGIN, ""]
    for section in sections:
        lines += _section_lines(section, page.parent)
    page.write_text(before + "\n".join(lines) + END + after, encoding="utf-8")


def _section_lines(section: Section, folder: Path) -> list[str]:
    lines = [f"## {section.title}", ""]
    devices = _devices(section)
    if devices:
        lines += [devices, ""]
    primary = folder / f"{section.figures}-primary.svg"
    if plot_primary(section.parts, section.results, primary):
        lines += [
            f"![Paired differences in the primary measure]({primary.name})",
            "",
            "Grey: one seed. Blue: mean and 95 % interval. Losses are better to the left.",
            "",
        ]
    for part in section.parts:
        lines += part_lines(part, section.results)
        heads = folder / f"{section.figures}-heads-{part.key}.svg"
        if part.key in HEAD_PARTS and plot_heads(part, section.results, heads, time=HEAD_TIME):
            lines += [f"![What the heads of {part.key} attend to]({heads.name})", ""]
    return lines


def _devices(section: Section) -> str:
    """Return a sentence on the devices of the finished runs and the time that they trained."""
    runs = {
        f"{part.recipe}/{arm}-{seed}": run["made_on"]
        for part in section.parts
        for arm, by_seed in load_results(part, section.results).items()
        for seed, run in by_seed.items()
    }
    if not runs:
        return ""
    devices = sorted({run["device"] for run in runs.values()})
    torches = sorted({run["torch"] for run in runs.values()})
    hours = sum(run["training_seconds"] for run in runs.values()) / 3600
    return (
        f"{len(runs)} runs, trained in {hours:.1f} hours in all, on {', '.join(devices)} with "
        f"torch {', '.join(torches)}."
    )
