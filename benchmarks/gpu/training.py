"""Speed of training: steps of DiT-B/2 and XL/2, the training loop on scenes-dit, its renderer."""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

import harope
from benchmarks.gpu.bench import Bench, Result, attempt, count_syncs
from harope.lab.bench.plain_dit import PlainDiT
from harope.lab.data.labelled.scenes import ScenesDataset
from harope.models.dit import DiTConfig, fold
from harope.models.dit.config import dit_config
from harope.rope import parameter_groups

ENCODINGS = ("none", "axial", "harope")
TOKENS = 256
"""Tokens of a 32 x 32 latent in patches of 2."""
PEAK_FLOPS = 989e12
"""Dense bfloat16 operations per second of an H100 SXM (NVIDIA H100 data sheet)."""


PLAIN = "plain DiT"
"""Name of the formulation of `harope.lab.bench.plain_dit` among the encodings."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What is trained: size of the model, images per step, and whether it is compiled."""

    size: str
    """Name of the DiT's size."""
    batch: int
    """Images per step."""
    compiled: bool = False
    """Whether to use `torch.compile`."""


BASE, LARGE = ("DiT-B/2", 256), ("DiT-XL/2", 128)
"""Sizes and images per step of the measured trainings."""


def dit_eager(bench: Bench) -> Result:
    """Time training steps of DiT-B/2 without compilation.

    Args:
        bench: Device.

    Returns:
        By encoding: speed, memory, and what waits for the GPU; see `_time_steps`.
    """
    return _training_speed(bench, BASE, ENCODINGS, compiled=False, needs=25)


def dit_plain(bench: Bench) -> Result:
    """Time training steps of DiT-B/2 and XL/2 in the plain formulation, without compilation.

    Args:
        bench: Device.

    Returns:
        By size: speed and memory; see `_time_steps`.
    """
    return {
        size: _training_speed(bench, (size, batch), (PLAIN,), compiled=False, needs=20)[PLAIN]
        for size, batch in (BASE, LARGE)
    }


def dit_compiled(bench: Bench) -> Result:
    """Time training steps of DiT-B/2 with `torch.compile`.

    Args:
        bench: Device.

    Returns:
        By encoding: speed and memory; see `_time_steps`.
    """
    return _training_speed(bench, BASE, ENCODINGS, compiled=True, needs=60)


def dit_xl_compiled(bench: Bench) -> Result:
    """Time training steps of DiT-XL/2 with `torch.compile`.

    Args:
        bench: Device.

    Returns:
        By encoding: speed and memory; see `_time_steps`.
    """
    return _training_speed(bench, LARGE, ("harope", "axial", "none"), compiled=True, needs=90)


def dit_folded(bench: Bench) -> Result:
    """Time forward passes of DiT-B/2 as samplers run them, with the basis folded into the weights.

    Args:
        bench: Device; on a GPU the model is compiled.

    Returns:
        By encoding: milliseconds and images per second.
    """
    size, batch = ("DiT-S/2", 2) if bench.tiny else ("DiT-B/2", 128)
    return {name: attempt(partial(_time_folded, bench, size, batch, name)) for name in ENCODINGS}


def _time_folded(bench: Bench, size: str, batch: int, encoding: str) -> Result:
    torch.manual_seed(0)
    depth = {"depth": 1} if bench.tiny else {}
    model = fold(harope.DiT(size, encoding=encoding, num_classes=1000, **depth).eval())
    model = model.to(bench.device)
    network = torch.compile(model) if bench.on_gpu else model
    x = torch.randn(batch, 4, 32, 32, device=bench.device)
    t = 1000 * torch.rand(batch, device=bench.device)
    labels = torch.randint(1000, (batch,), device=bench.device)

    def forward() -> None:
        with torch.inference_mode(), torch.autocast(bench.device.type, torch.bfloat16):
            network(x, t, labels)

    milliseconds = bench.milliseconds(forward, seconds=1.0)
    torch._dynamo.reset()
    return {"ms": round(milliseconds, 3), "images_per_s": round(1e3 * batch / milliseconds, 1)}


def step_flops(config: DiTConfig, batch: int) -> int:
    """Count the operations of a training step: 2 per multiplication and addition.

    Args:
        config: The model.
        batch: Number of images.

    Returns:
        Operations of matrix products in the blocks, forward and backward.
    """
    width = config.width
    block = TOKENS * (12 * width * width + 2 * TOKENS * width) + 6 * width * width
    return 3 * 2 * batch * config.depth * block


def scenes_training(bench: Bench) -> Result:
    """Train scenes-dit for 200 steps with the package's own loop.

    Args:
        bench: Whether the run is tiny; the loop chooses the device itself.

    Returns:
        By encoding: losses, whether they fall by 30 %, and images per second at the end.
    """
    # accelerate and pydantic may be missing.
    from harope.lab.recipes.scenes import scenes_dit
    from harope.lab.training.logging import read_metrics
    from harope.lab.training.loop import train

    steps = 4 if bench.tiny else 200
    found: Result = {}
    for encoding in ("axial", "harope"):
        config = scenes_dit()
        model = replace(config.model, encoding=encoding)
        if bench.tiny:
            model = replace(model, depth=1, width=32, num_heads=2)
        config = replace(
            config,
            model=model,
            steps=steps,
            batch_size=4 if bench.tiny else 64,
            log_every=max(1, steps // 10),
            checkpoint_every=steps,
            sample_every=10 * steps,
            num_workers=4 if bench.on_gpu else 0,
            num_samples=4,
            sampling=replace(config.sampling, num_steps=2),
            report_to=(),
        )
        with tempfile.TemporaryDirectory() as folder:
            train(config, Path(folder) / "run", quiet=True)
            lines = read_metrics(Path(folder) / "run")
        losses = [round(line["loss"], 4) for line in lines]
        found[encoding] = {
            "loss": losses,
            "falls": losses[-1] < 0.7 * losses[0],
            "images_per_s": round(lines[-1]["images_per_second"], 1),
        }
    return found


def render_speed(bench: Bench) -> Result:
    """Time the renderer of scenes in one process, which limits scenes-dit without workers.

    Args:
        bench: Whether the run is tiny.

    Returns:
        Images per second.
    """
    source, count = ScenesDataset(32), 16 if bench.tiny else 256
    source.samples(range(8))
    began = time.perf_counter()
    source.samples(range(count))
    return {"images_per_s": round(count / (time.perf_counter() - began), 1)}


def _training_speed(
    bench: Bench,
    model: tuple[str, int],
    names: Sequence[str],
    *,
    compiled: bool,
    needs: float,
) -> Result:
    size, batch = ("DiT-S/2", 2) if bench.tiny else model
    training = Training(size=size, batch=batch, compiled=compiled)
    found: Result = {}
    for name in names:
        if bench.seconds_left() < needs:
            found[name] = f"skipped: {bench.seconds_left():.0f} s left"
            continue
        found[name] = attempt(partial(_time_steps, bench, name, training), 300)
        torch._dynamo.reset()
        bench.free_memory()
    return found


def _time_steps(bench: Bench, encoding: str, training: Training) -> Result:
    """Return the speed of training steps.

    The keys are: `ms`, `images_per_s`, `tflop_per_s` and `share_of_989` (of an H100's peak) of a
    step; `cpu_ms`, how long the CPU takes to launch it: close to `ms` if the CPU waits for the GPU
    or the GPU for the CPU; `warm_up_s` of the first three steps; `gib`, the peak of memory; `syncs`
    of one step in eager mode, see `count_syncs`.
    """
    batch, steps = training.batch, 1 if bench.tiny else 12
    config, step = _training_step(bench, encoding, training)
    warm_up, _ = _seconds(bench, step, 3)
    if bench.on_gpu:
        torch.cuda.reset_peak_memory_stats()
    total, launched = _seconds(bench, step, steps)
    speed = step_flops(config, batch) * steps / total
    found: Result = {
        "images_per_s": round(batch * steps / total, 1),
        "ms": round(1e3 * total / steps, 2),
        "cpu_ms": round(1e3 * launched / steps, 2),
        "tflop_per_s": round(speed / 1e12, 1),
        "share_of_989": round(speed / PEAK_FLOPS, 3),
        "warm_up_s": round(warm_up, 1),
        "gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if bench.on_gpu else None,
    }
    if bench.on_gpu and not training.compiled:
        found["syncs"] = count_syncs(step)
    return found


def _training_step(
    bench: Bench, encoding: str, training: Training
) -> tuple[DiTConfig, Callable[[], None]]:
    """Return the configuration of a new model, and a function that trains it for one step."""
    # accelerate may be missing.
    from harope.lab.training.optim import EMA

    torch.manual_seed(0)
    device, batch = bench.device, training.batch
    config = dit_config(training.size, **({"depth": 1} if bench.tiny else {}))
    plain = encoding == PLAIN
    model: Any = PlainDiT(config, 32) if plain else harope.DiT(config, encoding=encoding)
    model = model.to(device).train()
    ema = EMA(model, 0.9999)
    optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-4, fused=True)
    network = torch.compile(model) if training.compiled else model
    x = torch.randn(batch, 4, 32, 32, device=device)
    t = 1000 * torch.rand(batch, device=device)
    labels = torch.randint(1000, (batch,), device=device)
    dropped = torch.rand(batch, device=device) < 0.1

    def step() -> None:
        with torch.autocast(device.type, torch.bfloat16):
            outputs = network(x, t, labels, drop_labels=dropped)
        loss = outputs[:, :4].float().sub(x).square().mean()
        (loss if plain else loss + 1e-4 * model.regularization()).backward()
        optimizer.step()
        optimizer.zero_grad()
        ema.update()

    return config, step


def _seconds(bench: Bench, step: Callable[[], None], count: int) -> tuple[float, float]:
    """Return how long steps take, and how long the CPU takes to launch them."""
    bench.synchronize()
    began = time.perf_counter()
    for _ in range(count):
        step()
    launched = time.perf_counter() - began
    bench.synchronize()
    return time.perf_counter() - began, launched
