"""The tables of docs/scale.md, which `python -m scripts.scale` computes and writes into the page.

A table stands between `<!-- NAME -->` and `<!-- end of NAME -->`. All numbers are those of
`harope plan`.
"""

import math
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

from harope.lab.plan import speed
from harope.lab.plan.cards import CARDS, CARDS_PER_MACHINE, GIB
from harope.lab.plan.main import Plan, PlanConfig, configured_layout, make_plan
from harope.lab.plan.memory import (
    CONTEXT_BYTES,
    OVERHEAD,
    needed_bytes,
    possible_accumulations,
)
from harope.lab.plan.workload import Workload
from harope.lab.recipes import get_recipe
from harope.lab.reporting.tables import markdown_table
from harope.lab.training.serialization import override

PAGE = Path("docs/scale.md")
TRAININGS: dict[str, tuple[str, dict[str, str]]] = {
    "DiT-B/2": ("imagenet-dit", {}),
    "DiT-XL/2": (
        "imagenet-dit",
        {"model.depth": "28", "model.width": "1152", "model.num_heads": "16"},
    ),
    "ViT-B/16": ("imagenet-vit", {}),
    "SD3 medium": ("coco-sd3", {}),
    "FLUX by LoRA": ("flux-lora", {}),
}
"""Trainings of the page: recipe, and fields that are changed."""
PAPER = "DiT-B/2"
"""The training of the paper's table 2."""
GPUS = (1, 8, 64)
SAMPLES = 50_000
"""Images of an FID."""

Rows = list[tuple[str, ...]]


@cache
def workload(title: str) -> Workload:
    """Count a training of the page.

    Args:
        title: Key of `TRAININGS`.

    Returns:
        Its numbers.
    """
    name, fields = TRAININGS[title]
    recipe = get_recipe(name)
    return Workload(override(recipe.config(), fields), recipe)


def plan(title: str, card: str, gpus: int) -> Plan:
    """Plan a training of the page with as few micro-batches as fit.

    Args:
        title: Key of `TRAININGS`.
        card: Name of the card.
        gpus: Number of cards.

    Returns:
        The plan; of single images if nothing fits.
    """
    counted, chosen = workload(title), PlanConfig(card=card, gpus=gpus)
    layout = configured_layout(replace(counted.config, accumulation=1), chosen)
    for accumulation in possible_accumulations(layout):
        candidate = replace(layout, accumulation=accumulation)
        if needed_bytes(counted, candidate) <= CARDS[card].memory_gib * GIB:
            return make_plan(counted, chosen, candidate)
    return make_plan(counted, chosen, replace(layout, accumulation=layout.images))


def training_rows(title: str) -> Rows:
    """Plan a training on H100s.

    Args:
        title: Key of `TRAININGS`.

    Returns:
        One row per number of cards.
    """
    rows: Rows = []
    for gpus in GPUS:
        found = plan(title, "h100", gpus)
        first = found.speed.waits[0]
        share = first.seconds_per_step / found.speed.step_seconds
        rows.append(
            (
                title,
                f"{gpus}",
                _batch(found),
                f"{found.needed_bytes / GIB:.0f}",
                _round(found.speed.images_per_second),
                _time_and_price(found),
                f"{first.name}, {share:.0%}" if share >= 0.005 else "nothing",
            )
        )
    return rows


def trainings_table() -> Rows:
    """Plan all trainings on H100s.

    Returns:
        Header and rows.
    """
    header = (
        "training", "H100s", "images", "GiB each", "images/s", "hours, price", "waits most for",
    )  # fmt: skip
    return [header, *(row for title in TRAININGS for row in training_rows(title))]


def cards_table() -> Rows:
    """Plan the paper's training on each card, one and eight of them.

    Returns:
        Header and rows.
    """
    header = (
        "card", "GiB", "TFLOP/s", "$ an hour", "images", "on one", "on eight",
    )  # fmt: skip
    rows: Rows = [header]
    for name, card in CARDS.items():
        one, eight = plan(PAPER, name, 1), plan(PAPER, name, 8)
        rows.append(
            (
                name,
                f"{card.memory_gib:.0f}",
                f"{card.bf16_tflops:,.0f}",
                f"{card.price:.2f}",
                _batch(one),
                _time_and_price(one),
                _time_and_price(eight),
            )
        )
    return rows


def limits_table() -> Rows:
    """List what the paper's training waits for on one machine and on eight.

    Returns:
        Header and rows.
    """
    clusters = [(card, gpus) for card in ("h100", "rtx-4090") for gpus in GPUS[1:]]
    plans = {f"{gpus} x {card}": plan(PAPER, card, gpus) for card, gpus in clusters}
    rows: Rows = [("of the time", *plans)]
    names = ("launches", "optimizer and EMA", "communication", "data", "checkpoints", "reports")
    for name in names:
        cells = []
        for found in plans.values():
            (wait,) = (wait for wait in found.speed.waits if wait.name == name)
            cells.append(f"{wait.seconds_per_step / found.speed.step_seconds:.1%}")
        rows.append((name, *cells))
    return rows


def exchange_table() -> Rows:
    """Compare the exchange of gradients with the backward pass that hides it, on 64 H100s.

    Returns:
        Header and rows.
    """
    rows: Rows = [
        ("training", "GB a step", "ms by NVLink", "ms by the network", "ms of backward pass")
    ]
    for title in TRAININGS:
        found, card = plan(title, "h100", GPUS[-1]), CARDS["h100"]
        size = speed.exchanged_bytes(workload(title), found.layout)
        rates = (card.link_gbs, card.network_gbs)
        times = [size / (1e9 * speed.LINK_EFFICIENCY * rate) for rate in rates]
        times.append(speed.BACKWARD_SHARE * found.speed.compute_seconds)
        rows.append((title, f"{size / 1e9:.2g}", *(_round(1e3 * seconds) for seconds in times)))
    return rows


def evaluation_table() -> Rows:
    """Compute how long the samples of an FID take.

    Returns:
        Header and rows.
    """
    rows: Rows = [("model", "forward passes", "hours on one H100", "on 8", "on 64")]
    for title in ("DiT-B/2", "DiT-XL/2"):
        counted = workload(title)
        passes = SAMPLES * 250 * 2
        rate = speed.DEFAULT_MFU * CARDS["h100"].peak_flops("bf16")
        hours = passes * counted.forward_flops.per_image / rate / 3600
        rows.append((title, f"{passes / 1e6:,.0f} M", *(_round(hours / gpus) for gpus in GPUS)))
    return rows


def assumptions_table() -> Rows:
    """List the numbers that are neither counted nor measured.

    Returns:
        Header and rows.
    """
    rates = ", ".join(f"{name} {rate:,.0f}/s" for name, rate in speed.WORKER_RATES.items())
    return [
        ("assumption", "value"),
        ("fraction of the peak in forward and backward pass (`--mfu`)", f"{speed.DEFAULT_MFU:g}"),
        ("launch of an operator that is not compiled", f"{1e6 * speed.LAUNCH_SECONDS:.0f} us"),
        ("launches left by torch.compile", f"{speed.COMPILED_LAUNCHES:.0%}"),
        ("fraction of the bandwidth between cards", f"{speed.LINK_EFFICIENCY:g}"),
        ("fraction of the bandwidth of memory", f"{speed.MEMORY_EFFICIENCY:g}"),
        ("cards of a machine", f"{CARDS_PER_MACHINE}"),
        ("disk", f"{speed.DISK_BYTES_PER_S / 1e9:g} GB/s"),
        ("what a worker process reads", rates),
        ("memory of CUDA and its libraries", f"{CONTEXT_BYTES / GIB:g} GiB"),
        ("temporary tensors and fragmentation", f"{OVERHEAD:.0%} of the activations"),
    ]


def error_example() -> str:
    """Return the error of the paper's training on a card that is too small.

    Returns:
        A block of code.
    """
    message = make_plan(workload(PAPER), PlanConfig(card="rtx-4090")).too_small()
    lines = textwrap.wrap(f"harope: error: {message}", 100, break_on_hyphens=False)
    return "\n".join(["```text", *lines, "```"])


TABLES: Mapping[str, Callable[[], Rows]] = {
    "trainings": trainings_table,
    "cards": cards_table,
    "limits": limits_table,
    "exchange": exchange_table,
    "evaluation": evaluation_table,
    "assumptions": assumptions_table,
}
"""Functions that compute the tables of the page."""


def replace_part(page: str, name: str, text: str) -> str:
    """Replace what stands between two comments of the page.

    Args:
        page: Text of the page.
        name: Name of the part.
        text: Its new content.

    Returns:
        The new page.
    """
    start, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    before, rest = page.split(start)
    _, after = rest.split(end)
    return f"{before}{start}\n\n{text}\n\n{end}{after}"


def main() -> None:
    """Compute all tables and write them into the page."""
    page = PAGE.read_text(encoding="utf-8")
    for name, table in TABLES.items():
        page = replace_part(page, name, markdown_table(table()))
    page = replace_part(page, "error", error_example())
    PAGE.write_text(page, encoding="utf-8")
    print(PAGE)


def _batch(found: Plan) -> str:
    """Return the images of a micro-batch on one card, times the micro-batches if there are more."""
    layout = found.layout
    return f"{layout.images}" + (f" x {layout.accumulation}" if layout.accumulation > 1 else "")


def _time_and_price(found: Plan) -> str:
    return f"{_round(found.hours)} h, ${_round(found.dollars)}"


def _round(value: float) -> str:
    """Round to two digits: rates and prices are no better known."""
    if value == 0:
        return "0"
    digits = 1 - math.floor(math.log10(abs(value)))
    rounded = round(value, digits)
    return f"{rounded:,.0f}" if digits <= 0 else f"{rounded:.{digits}f}"


if __name__ == "__main__":
    main()
