"""Entry point of `harope plan`: what a training needs and costs on some cards."""

from dataclasses import asdict, dataclass, replace
from typing import Any

from harope._utils.field_checks import AT_LEAST_ONE, NOT_NEGATIVE, POSITIVE, check_range
from harope._utils.progress import format_seconds
from harope.lab.plan.cards import GIB, Card, get_card
from harope.lab.plan.memory import (
    Layout,
    MemoryPart,
    Parallel,
    Remedy,
    memory_parts,
    remedies,
    too_small,
)
from harope.lab.plan.speed import DEFAULT_MFU, Speed, estimate_speed
from harope.lab.plan.workload import Workload
from harope.lab.recipes import Recipe
from harope.lab.reporting.tables import text_table
from harope.lab.training.task import RunConfig


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Cards that a training is planned for, and what is assumed of them."""

    card: str = "h100"
    """Name of the card, one of `harope.lab.plan.cards.CARDS`."""
    gpus: int = 1
    """Number of cards."""
    price: float | None = None
    """Dollars per hour of one card; None for the one of the table."""
    mfu: float = DEFAULT_MFU
    """Model FLOPs utilization: fraction of the card's peak that a step reaches."""
    parallel: Parallel = "ddp"
    """How several cards share the training: the images only (ddp), or the model as well (fsdp)."""

    def __post_init__(self) -> None:
        check_range(self, AT_LEAST_ONE, "gpus")
        check_range(self, NOT_NEGATIVE, "price")
        check_range(self, POSITIVE, "mfu")
        if self.mfu > 1:
            raise ValueError(f"mfu {self.mfu} is a fraction of the peak: pass at most 1")
        get_card(self.card)

    def priced_card(self) -> Card:
        """Return the card with the price of this configuration.

        Returns:
            The card.
        """
        card = get_card(self.card)
        return card if self.price is None else replace(card, price=self.price)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a training needs and costs."""

    recipe: str
    """Name of the recipe."""
    card: Card
    """The card."""
    mfu: float
    """Assumed fraction of the card's peak."""
    layout: Layout
    """How the training is laid out over cards."""
    steps: int
    """Number of steps."""
    precision: str
    """Mixed precision: "bf16", "fp16" or "no" (float32)."""
    parameters: int
    """Parameters of the model with its encodings."""
    trained: int
    """Those that are trained."""
    forward_flops: float
    """Operations of a forward pass on one image, two per multiplication and addition."""
    step_flops: float
    """Operations of a training step on one image."""
    memory: tuple[MemoryPart, ...]
    """Memory of one card."""
    speed: Speed
    """Time of a step."""
    remedies: tuple[Remedy, ...]
    """Changes with which the training fits; empty if it fits as it is."""

    @property
    def needed_bytes(self) -> float:
        """Memory that one card needs."""
        return sum(part.bytes for part in self.memory)

    @property
    def fits(self) -> bool:
        """Whether the memory of the card suffices."""
        return self.needed_bytes <= self.card.memory_gib * GIB

    @property
    def hours(self) -> float:
        """Duration of the training."""
        return self.steps * self.speed.step_seconds / 3600

    @property
    def dollars(self) -> float:
        """Price of the training."""
        return self.hours * self.layout.gpus * self.card.price

    @property
    def kilowatt_hours(self) -> float:
        """Energy of the cards at their largest power draw."""
        return self.hours * self.layout.gpus * self.card.watts / 1000

    def to_dict(self) -> dict[str, Any]:
        """Return all numbers for JSON.

        Returns:
            Values by key.
        """
        speed = asdict(self.speed) | {
            "step_seconds": self.speed.step_seconds,
            "images_per_second": self.speed.images_per_second,
        }
        totals = {
            "needed_bytes": self.needed_bytes,
            "fits": self.fits,
            "hours": self.hours,
            "dollars": self.dollars,
            "kilowatt_hours": self.kilowatt_hours,
        }
        return asdict(self) | {"speed": speed} | totals

    def too_small(self) -> str:
        """Say that the card is too small, and what would fit.

        Returns:
            One line.
        """
        memory = self.card.memory_gib * GIB
        return too_small(self.recipe, self.needed_bytes, self.card.name, memory, self.remedies)


def make_plan(workload: Workload, config: PlanConfig, layout: Layout | None = None) -> Plan:
    """Compute memory, speed and price of a training.

    Args:
        workload: The training.
        config: Cards, and what is assumed of them.
        layout: How the training is laid out over the cards; None for what its configuration says.

    Returns:
        The plan.

    Raises:
        ValueError: The images of a step cannot be divided evenly among the cards.
    """
    training, card = workload.config, config.priced_card()
    layout = configured_layout(training, config) if layout is None else layout
    memory = tuple(memory_parts(workload, layout))
    fits = sum(part.bytes for part in memory) <= card.memory_gib * GIB
    flops = workload.step_flops(checkpointing=layout.checkpointing)
    return Plan(
        recipe=training.recipe,
        card=card,
        mfu=config.mfu,
        layout=layout,
        steps=training.steps,
        precision=training.precision,
        parameters=workload.parameters.total,
        trained=workload.parameters.trained,
        forward_flops=workload.forward_flops.per_image,
        step_flops=flops.per_image,
        memory=memory,
        speed=estimate_speed(workload, layout, card, config.mfu),
        remedies=() if fits else tuple(remedies(workload, layout, card.memory_gib * GIB)),
    )


def configured_layout(training: RunConfig, config: PlanConfig) -> Layout:
    """Lay a training out over cards as its configuration says.

    Args:
        training: Configuration of the training.
        config: Cards.

    Returns:
        The layout.

    Raises:
        ValueError: The images of a step cannot be divided evenly among the cards.
    """
    return Layout(
        batch_size=training.batch_size,
        gpus=config.gpus,
        accumulation=training.accumulation,
        checkpointing=training.gradient_checkpointing,
        parallel=config.parallel,
    )


def plan_recipe(training: RunConfig, recipe: Recipe, config: PlanConfig) -> Plan:
    """Plan a training, of which nothing is loaded.

    Args:
        training: Configuration of the training.
        recipe: Its recipe.
        config: Cards, and what is assumed of them.

    Returns:
        The plan.

    Raises:
        ValueError: The images of a step cannot be divided evenly among the cards, or the size of
            the data or of a pretrained model is not known.
    """
    return make_plan(Workload(training, recipe), config)


def format_plan(plan: Plan) -> str:
    """Format a plan as text: the memory, then time and price, then what the training waits for.

    Args:
        plan: The plan.

    Returns:
        Lines without a newline at the end.
    """
    card, layout = plan.card, plan.layout
    cards = f"{layout.gpus} x {card.name}"
    return "\n\n".join(
        [
            f"{plan.recipe} on {cards}: {plan.steps:,} steps of {layout.batch_size} images, "
            f"precision {'float32' if plan.precision == 'no' else plan.precision}\n"
            f"{plan.parameters:,} parameters, {plan.trained:,} of them trained\n"
            f"{_flops(plan.forward_flops)} an image in a forward pass, {_flops(plan.step_flops)} "
            f"in a training step",
            text_table(memory_table(plan)),
            text_table(speed_table(plan)),
            text_table(wait_table(plan)),
            "The counts of parameters, operations and activations are those of the code; rates "
            "between cards,\nto disk and of workers are assumptions, as is the fraction of the "
            "peak (--mfu).",
        ]
    )


def memory_table(plan: Plan) -> list[list[str]]:
    """Return the memory of one card as a table.

    Args:
        plan: The plan.

    Returns:
        Header and rows: part, formula, GiB.
    """
    rows = [[part.name, part.formula, f"{part.bytes / GIB:.2f}"] for part in plan.memory]
    verdict = "fits" if plan.fits else "does not fit"
    total = ["total", f"{verdict} in {plan.card.memory_gib:.0f} GiB"]
    return [["memory of one card", "", "GiB"], *rows, [*total, f"{plan.needed_bytes / GIB:.2f}"]]


def speed_table(plan: Plan) -> list[list[str]]:
    """Return time and price as a table.

    Args:
        plan: The plan.

    Returns:
        Header and rows: quantity, formula, value.
    """
    layout, card, speed = plan.layout, plan.card, plan.speed
    peak = card.peak_flops(plan.precision) / 1e12
    operations = f"{layout.batch_size} x {_flops(plan.step_flops)}"
    rate = f"({layout.gpus} x {peak:,.5g} TFLOP/s x {plan.mfu:g})"
    return [
        ["time and price", "", ""],
        ["a step's operations", f"{operations} / {rate}", f"{_ms(speed.compute_seconds)}"],
        ["a step with all waits", "below", f"{_ms(speed.step_seconds)}"],
        ["images per second", "", f"{speed.images_per_second:,.0f}"],
        ["duration", f"{plan.steps:,} steps", format_seconds(3600 * plan.hours)],
        [
            "price",
            f"{plan.hours:,.1f} h x {layout.gpus} x ${card.price:.2f}",
            f"${plan.dollars:,.2f}",
        ],
        ["energy of the cards", f"at {card.watts:.0f} W", f"{plan.kilowatt_hours:,.1f} kWh"],
    ]


def wait_table(plan: Plan) -> list[list[str]]:
    """Return what a training waits for, largest first.

    Args:
        plan: The plan.

    Returns:
        Header and rows: cause, formula, percentage of the time.
    """
    total = plan.speed.step_seconds
    rows = [
        [wait.name, wait.formula, f"{100 * wait.seconds_per_step / total:.1f} %"]
        for wait in plan.speed.waits
    ]
    return [["waits, the first to break on top", "", "of the time"], *rows]


def _flops(count: float) -> str:
    units = ((1e12, "TFLOP"), (1e9, "GFLOP"), (1e6, "MFLOP"))
    size, name = next((unit for unit in units if count >= unit[0]), units[-1])
    return f"{count / size:,.4g} {name}"


def _ms(seconds: float) -> str:
    return f"{1000 * seconds:,.4g} ms"
