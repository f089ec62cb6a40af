"""Time of a training step, and what a training waits for besides its matrix products."""

from dataclasses import dataclass
from typing import Any

from harope.lab.plan.cards import CARDS_PER_MACHINE, Card
from harope.lab.plan.memory import FLOAT32, Layout
from harope.lab.plan.workload import Workload

DEFAULT_MFU = 0.25
"""Fraction of a card's peak that a step reaches: an assumption, that of fast-DiT's DiT-XL/2 on an
A100 (107 images/s), the highest of the published ones that are known to us."""
LINK_EFFICIENCY = 0.8
"""Fraction of the bandwidth between cards that collective operations reach: an assumption."""
MEMORY_EFFICIENCY = 0.8
"""Fraction of the bandwidth of the memory that optimizer and EMA reach: an assumption."""
UPDATE_BYTES = 10 * FLOAT32
"""Bytes that AdamW and EMA read and write per trained parameter: weight, gradient, two moments and
average are read, all but the gradient are written; and the gradient is zeroed."""
DISK_BYTES_PER_S = 1e9
"""Rate at which checkpoints are written, with their checksums: an assumption."""
LAUNCH_SECONDS = 5e-6
"""Time that the CPU takes to launch an operator without compilation: an assumption."""
COMPILED_LAUNCHES = 0.25
"""Launches that remain of them with torch.compile, which fuses operators: an assumption."""
BACKWARD_OPERATORS = 1.8
"""Operators of the backward pass for each of the forward pass, as counted for a DiT."""
BACKWARD_SHARE = 2 / 3
"""Part of a step's operations during which gradients can be exchanged."""

WORKER_RATES = {
    "latents": 60_000.0,
    "images": 200.0,
    "rendered images": 5_000.0,
    "images in memory": 50_000.0,
}
"""Items per second that one worker process reads. JPEG files of 500 x 375 pixels, cropped to 224 or
256, were measured with 215 to 297 per core of an AMD EPYC, and rendered scenes with 5,000. Latents
of 4 x 32 x 32 take 16 KB, of which a disk of 1 GB/s gives 60,000; 460,000 were measured from the
cache of files."""
AUTO_WORKERS = 8
"""Worker processes per card if their number is not given."""
SOURCES = {
    "latents": "latents",
    "captioned-latents": "latents",
    "scenes": "rendered images",
    "captioned-scenes": "rendered images",
    "idx": "images in memory",
    "digits": "images in memory",
    "emoji": "images in memory",
}
"""Kind of work by kind of data; the others read image files."""


@dataclass(frozen=True, kw_only=True)
class Wait:
    """Something that a training waits for, as a fraction of its time."""

    name: str
    """What it waits for."""
    seconds_per_step: float
    """Seconds, averaged over the steps."""
    formula: str
    """How they are computed, with the numbers."""


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Speed of a training."""

    compute_seconds: float
    """Seconds of matrix products per step."""
    waits: tuple[Wait, ...]
    """What it waits for besides, largest first."""
    images: int
    """Images per step, over all cards."""

    @property
    def step_seconds(self) -> float:
        """Seconds per step, with everything."""
        return self.compute_seconds + sum(wait.seconds_per_step for wait in self.waits)

    @property
    def images_per_second(self) -> float:
        """Images per second, over all cards."""
        return self.images / self.step_seconds


def estimate_speed(workload: Workload, layout: Layout, card: Card, mfu: float) -> Speed:
    """Estimate the time of a step from rates.

    Args:
        workload: The training.
        layout: How it is laid out over cards.
        card: The card.
        mfu: Fraction of the card's peak that the forward and the backward pass reach.

    Returns:
        Times per step.
    """
    flops = workload.step_flops(checkpointing=layout.checkpointing)
    rate = mfu * card.peak_flops(workload.config.precision)
    compute = layout.accumulation * flops.at(layout.images) / rate
    waits = [
        _launches(workload, layout, compute),
        _update(workload, layout, card),
        _communication(workload, layout, card, compute),
        _data(workload, layout, compute),
        _checkpoints(workload),
        _reports(workload, rate),
    ]
    waits.sort(key=lambda wait: wait.seconds_per_step, reverse=True)
    return Speed(compute_seconds=compute, waits=tuple(waits), images=layout.batch_size)


def exchanged_bytes(workload: Workload, layout: Layout) -> float:
    """Return what each card sends in a step to exchange gradients, and weights if it has a part.

    A ring sends (n - 1) / n of the data once to gather or to reduce it, and twice to do both. DDP
    reduces gradients and gathers the sums; FSDP gathers the weights for each forward and backward
    pass, and reduces the gradients.

    Args:
        workload: The training.
        layout: How it is laid out over cards.

    Returns:
        Bytes per step.
    """
    counts, ring = workload.parameters, (layout.gpus - 1) / layout.gpus
    if layout.parallel == "ddp":
        return 2 * ring * FLOAT32 * counts.trained
    gathered = 2 * layout.accumulation * counts.bytes
    return ring * (gathered + FLOAT32 * counts.trained)


def _launches(workload: Workload, layout: Layout, compute: float) -> Wait:
    config: Any = workload.config
    passes = 1 + BACKWARD_OPERATORS + layout.checkpointing
    count = layout.accumulation * passes * workload.forward_operators
    # On a GPU, "auto" compiles.
    if config.compile in (True, "auto"):
        count *= COMPILED_LAUNCHES
    seconds = count * LAUNCH_SECONDS
    return Wait(
        name="launches",
        seconds_per_step=max(0.0, seconds - compute),
        formula=f"{count:,.0f} launches x {1e6 * LAUNCH_SECONDS:.0f} us: {_time(seconds)}, beside "
        f"{_time(compute)} of operations",
    )


def _update(workload: Workload, layout: Layout, card: Card) -> Wait:
    share = layout.gpus if layout.parallel == "fsdp" else 1
    size = UPDATE_BYTES * workload.parameters.trained / share
    rate = MEMORY_EFFICIENCY * 1e9 * card.bandwidth_gbs
    return Wait(
        name="optimizer and EMA",
        seconds_per_step=size / rate,
        formula=f"{size / 1e9:.3g} GB read and written at {rate / 1e9:,.0f} GB/s",
    )


def _communication(workload: Workload, layout: Layout, card: Card, compute: float) -> Wait:
    if layout.gpus == 1:
        return Wait(name="communication", seconds_per_step=0.0, formula="one card")
    # The rings of collective operations use all network adapters of a machine.
    one_machine = layout.gpus <= CARDS_PER_MACHINE
    bandwidth = card.link_gbs if one_machine else min(card.link_gbs, card.network_gbs)
    rate = LINK_EFFICIENCY * 1e9 * bandwidth
    size = exchanged_bytes(workload, layout)
    seconds, hidden = size / rate, BACKWARD_SHARE * compute / layout.accumulation
    return Wait(
        name="communication",
        seconds_per_step=max(0.0, seconds - hidden),
        formula=f"{size / 1e9:.3g} GB at {rate / 1e9:.3g} GB/s: {_time(seconds)}, beside "
        f"{_time(hidden)} of backward pass",
    )


def _data(workload: Workload, layout: Layout, compute: float) -> Wait:
    config: Any = workload.config
    source = SOURCES.get(config.data.kind, "images")
    # Without workers, the training process reads between two steps.
    workers = AUTO_WORKERS if config.num_workers == "auto" else config.num_workers
    hidden = compute if workers else 0.0
    readers = layout.gpus * max(1, workers)
    rate = WORKER_RATES[source]
    supply, demand = readers * rate, layout.batch_size / compute
    words = "workers" if workers else "training processes"
    return Wait(
        name="data",
        seconds_per_step=max(0.0, layout.batch_size / supply - hidden),
        formula=f"{readers} {words} read {supply:,.0f} {source} a second of {demand:,.0f}",
    )


def _checkpoints(workload: Workload) -> Wait:
    counts, config = workload.parameters, workload.config
    weights = counts.bytes if counts.trained == counts.total else FLOAT32 * counts.trained
    size = weights + FLOAT32 * counts.trained + counts.optimizer_bytes
    seconds = size / DISK_BYTES_PER_S
    every = min(config.checkpoint_every, config.steps)
    return Wait(
        name="checkpoints",
        seconds_per_step=seconds / every,
        formula=f"{size / 1e9:.3g} GB at {DISK_BYTES_PER_S / 1e9:.3g} GB/s: {_time(seconds)} every "
        f"{every:,} steps",
    )


def _reports(workload: Workload, rate: float) -> Wait:
    config: Any = workload.config
    passes = getattr(config, "validation_images", 0) + _sampling_passes(config)
    seconds = passes * workload.forward_flops.per_image / rate
    every = min(config.sample_every, config.steps)
    return Wait(
        name="reports",
        seconds_per_step=seconds / every,
        formula=f"{passes:,} forward passes on one card: {_time(seconds)} every {every:,} steps",
    )


def _sampling_passes(config: Any) -> int:
    """Return the number of forward passes of a sample grid; 0 for a classifier."""
    if hasattr(config, "sample_steps"):
        return config.num_samples * config.sample_steps
    if not hasattr(config, "sampling"):
        return 0
    sampling, samples = config.sampling, getattr(config, "num_samples", None)
    count = len(config.prompts) or 16 if samples is None else samples
    per_sample = sampling.num_steps * (2 if sampling.sampler == "heun" else 1)
    return count * per_sample * (1 if sampling.guidance == 1 else 2)


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1e3 * seconds:.3g} ms"
