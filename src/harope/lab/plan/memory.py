"""Memory of one card in a training, part by part."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

from harope.lab.plan.cards import CARDS, GIB
from harope.lab.plan.workload import AUTOCAST, Workload

Parallel: TypeAlias = Literal["ddp", "fsdp"]
"""How several cards share a training: each with the whole model, or each with a part of it."""

CONTEXT_BYTES = 1 * GIB
"""Memory of CUDA's context and of its libraries' workspaces: an assumption."""
OVERHEAD = 0.1
"""Fraction of the activations for temporary tensors, measured with 2 to 10 % on the CPU, and for
what the allocator cannot use: an assumption."""
FLOAT32 = 4
"""Bytes of a gradient, of an average, and of a moment."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """How the images of a step and the model are laid out over cards."""

    batch_size: int
    """Images per step, over all cards."""
    gpus: int = 1
    """Number of cards."""
    accumulation: int = 1
    """Micro-batches per step."""
    checkpointing: bool = False
    """Whether gradient checkpointing is on."""
    parallel: Parallel = "ddp"
    """Whether the cards share the images only, or the model as well."""

    def __post_init__(self) -> None:
        parts = self.gpus * self.accumulation
        if self.gpus < 1:
            raise ValueError(f"gpus {self.gpus} must be at least 1")
        if self.batch_size % parts:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of {parts} (gpus {self.gpus} x "
                f"accumulation {self.accumulation}): choose another batch_size or number of gpus"
            )

    @property
    def images(self) -> int:
        """Images of one forward pass on one card."""
        return self.batch_size // (self.gpus * self.accumulation)


@dataclass(frozen=True, kw_only=True)
class MemoryPart:
    """One line of the memory of a card."""

    name: str
    """What it is for."""
    formula: str
    """How its size is computed, with the numbers."""
    bytes: float
    """Its size."""


def memory_parts(workload: Workload, layout: Layout) -> list[MemoryPart]:
    """List what a training keeps in the memory of one card.

    Gradients and activations have their largest size at different times unless gradients are
    accumulated, so that a little less than the sum is used at any time.

    Args:
        workload: The training.
        layout: How it is laid out over cards.

    Returns:
        The parts, in the order in which they are created.
    """
    return [*kept_parts(workload, layout), *_activations(workload, layout)]


def kept_parts(workload: Workload, layout: Layout) -> list[MemoryPart]:
    """List what a training keeps in the memory of one card between two steps.

    Args:
        workload: The training.
        layout: How it is laid out over cards.

    Returns:
        The parts, in the order in which they are created.
    """
    counts, sharded = workload.parameters, layout.parallel == "fsdp" and layout.gpus > 1
    cards = f" / {layout.gpus} cards" if sharded else ""
    share = layout.gpus if sharded else 1
    trained = f"{_millions(counts.trained)} x {FLOAT32} bytes{cards}"
    moments = counts.optimizer_bytes / counts.trained
    name = workload.config.optimizer.name
    parts = [
        MemoryPart(
            name="weights",
            formula=f"{_millions(counts.total)} x {counts.bytes / counts.total:.3g} bytes{cards}",
            bytes=counts.bytes / share,
        ),
        *(
            MemoryPart(
                name=part.name,
                formula=f"{_millions(part.parameters)} x {part.bytes_per_parameter} bytes, frozen",
                bytes=float(part.parameters * part.bytes_per_parameter),
            )
            for part in workload.frozen
        ),
        MemoryPart(name="EMA", formula=trained, bytes=FLOAT32 * counts.trained / share),
        MemoryPart(
            name=f"optimizer ({name})",
            formula=f"{_millions(counts.trained)} x {moments:.3g} bytes{cards}",
            bytes=counts.optimizer_bytes / share,
        ),
        MemoryPart(name="gradients", formula=trained, bytes=FLOAT32 * counts.trained / share),
    ]
    return [*parts, *_exchange(workload, layout)]


def _exchange(workload: Workload, layout: Layout) -> Iterator[MemoryPart]:
    """Yield what several cards keep to exchange gradients or weights."""
    counts = workload.parameters
    if layout.gpus == 1:
        return
    if layout.parallel == "ddp":
        yield MemoryPart(
            name="buckets of DDP",
            formula=f"{_millions(counts.trained)} x {FLOAT32} bytes",
            bytes=float(FLOAT32 * counts.trained),
        )
        return
    yield MemoryPart(
        name="gathered blocks",
        formula=f"2 blocks of {_millions(counts.largest_block)} x {2 * FLOAT32} bytes",
        bytes=float(2 * 2 * FLOAT32 * counts.largest_block),
    )


def _activations(workload: Workload, layout: Layout) -> Iterator[MemoryPart]:
    saved = workload.activations(checkpointing=layout.checkpointing)
    # Autocast's copies of gathered weights are kept, although the weights themselves are freed.
    if saved.fixed > 0:
        copies = "copies of the weights" if AUTOCAST[workload.config.precision] else "tables"
        yield MemoryPart(name=copies, formula="does not grow with the batch", bytes=saved.fixed)
    activations = layout.images * saved.per_image
    checkpointed = ", checkpointed" if layout.checkpointing else ""
    yield MemoryPart(
        name="activations",
        formula=f"{layout.images} images x {saved.per_image / 1e6:.4g} MB{checkpointed}",
        bytes=activations,
    )
    yield MemoryPart(
        name="reserve",
        formula=f"CUDA {CONTEXT_BYTES / GIB:.0f} GiB + {OVERHEAD:.0%} of the activations",
        bytes=CONTEXT_BYTES + OVERHEAD * activations,
    )


def needed_bytes(workload: Workload, layout: Layout) -> float:
    """Return the memory that a training needs on one card.

    Args:
        workload: The training.
        layout: How it is laid out over cards.

    Returns:
        Bytes.
    """
    return sum(part.bytes for part in memory_parts(workload, layout))


@dataclass(frozen=True, kw_only=True)
class Remedy:
    """A change with which a training fits a card."""

    change: str
    """What to change, as on the command line."""
    bytes: float
    """Memory of one card after the change."""


def remedies(workload: Workload, layout: Layout, memory_bytes: float) -> list[Remedy]:
    """Find changes with which a training fits a card that is too small for it.

    Args:
        workload: The training.
        layout: How it is laid out over cards.
        memory_bytes: Memory of the card.

    Returns:
        Changes of the layout, those that leave the results as they are first, then the smallest
        card that fits; empty if no card does.
    """
    found: list[Remedy] = []
    variants = [("", layout)]
    if not layout.checkpointing:
        variants.append(("--gradient_checkpointing", replace(layout, checkpointing=True)))
    if layout.gpus > 1 and layout.parallel == "ddp":
        sharded = [
            (f"--parallel fsdp {words}".strip(), replace(variant, parallel="fsdp"))
            for words, variant in variants
        ]
        variants += sharded
    for words, variant in variants:
        for accumulation in possible_accumulations(variant):
            candidate = replace(variant, accumulation=accumulation)
            size = needed_bytes(workload, candidate)
            if size <= memory_bytes:
                more = accumulation > layout.accumulation
                change = f"{words} --accumulation {accumulation}" if more else words
                found.append(Remedy(change=change.strip(), bytes=size))
                break
    size = needed_bytes(workload, layout)
    larger = [other for other in CARDS.values() if other.memory_gib * GIB >= size]
    if larger:
        smallest = min(larger, key=lambda other: (other.memory_gib, other.price))
        found.append(Remedy(change=f"--card {smallest.name}", bytes=size))
    return found


def too_small(title: str, needed: float, card: str, memory: float, ways: Sequence[Remedy]) -> str:
    """Say that a card is too small, and what would fit.

    Args:
        title: What is trained.
        needed: Bytes that it needs on a card.
        card: Name of the card.
        memory: Bytes of its memory.
        ways: What would fit.

    Returns:
        One line.
    """
    need = f"{title} needs {needed / GIB:.1f} GiB on each {card}, which has {memory / GIB:.0f}"
    if not ways:
        return f"{need}: no known card has as much; choose a smaller model"
    fits = [f"{way.change} ({way.bytes / GIB:.1f} GiB)" for way in ways]
    return f"{need}: it fits with {', or '.join(fits)}"


def possible_accumulations(layout: Layout) -> Iterator[int]:
    """Yield the numbers of micro-batches that the images of a card can be divided into.

    Args:
        layout: How a training is laid out over cards.

    Yields:
        Numbers from that of the layout on, smallest first.
    """
    images = layout.batch_size // layout.gpus
    for count in range(layout.accumulation, images + 1):
        if images % count == 0:
            yield count


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f} M" if count < 1e9 else f"{count / 1e9:,.3f} G"
