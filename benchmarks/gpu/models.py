"""Models on the device: agreement with the CPU, CUDA graphs, and the speed of sampling."""

import contextlib
import time
import warnings
from functools import partial
from typing import Any

import torch
from torch import Tensor

import harope
from benchmarks.gpu.bench import Bench, Result, attempt, count_syncs
from harope.diffusion import GaussianDiffusion
from harope.diffusion.generate import SamplingConfig, generate
from harope.models.dit import fold

MESSAGE_LENGTH = 300
NUM_CLASSES = 10
TIMM_MODEL = "vit_tiny_patch16_224"


def every_encoding(bench: Bench) -> Result:
    """Run a small DiT with every encoding forward and backward, and compare it with the CPU.

    Args:
        bench: Device.

    Returns:
        By encoding: largest difference of the outputs relative to the largest output, and whether
        all gradients under bfloat16 autocast are finite.
    """
    return {
        name: attempt(partial(_compare_encoding, bench, name), MESSAGE_LENGTH)
        for name in harope.list_encodings()
    }


def timm_host(bench: Bench) -> Result:
    """Run a ViT of timm with several encodings, and compare it with the CPU.

    Args:
        bench: Device.

    Returns:
        By model and encoding: largest difference of the outputs relative to the largest output.
    """
    # timm may be missing.
    import timm

    create = partial(
        timm.create_model, TIMM_MODEL, num_classes=NUM_CLASSES, dynamic_img_size=True, depth=2
    )

    def compare(encoding: str) -> float:
        torch.manual_seed(0)
        model = create()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            harope.install(model, encoding, keep_absolute=False)
        x = torch.randn(8, 3, 224, 224)
        expected = model(x)
        outputs = model.to(bench.device)(x.to(bench.device))
        outputs.square().mean().backward()
        return _difference(outputs, expected)

    return {
        f"{TIMM_MODEL} {encoding}": attempt(partial(compare, encoding), MESSAGE_LENGTH)
        for encoding in ("axial", "harope", "mixed", "string-circulant")
    }


def cuda_graphs(bench: Bench) -> Result:
    """Run a small DiT with the CUDA graphs of `torch.compile`, in training and inference.

    Args:
        bench: Device; on a CPU the model is not compiled.

    Returns:
        By encoding and mode: "ok" or the error.
    """
    found: Result = {}
    for name in ("axial", "harope"):
        for mode in ("train", "eval"):
            torch._dynamo.reset()
            found[f"{name} {mode}"] = attempt(
                partial(_run_graphs, bench, name, mode == "train"), MESSAGE_LENGTH
            )
    torch._dynamo.reset()
    return found


def sampling_speed(bench: Bench) -> Result:
    """Time the steps of the ancestral sampler with guidance, 64 images of DiT-B/2.

    Args:
        bench: Device.

    Returns:
        Milliseconds per step, in float32 as `harope sample` and under bfloat16 autocast; on a GPU
        also what waits for it, see `benchmarks.gpu.bench.count_syncs`.
    """
    size, count, steps = ("DiT-S/2", 2, 3) if bench.tiny else ("DiT-B/2", 64, 20)
    depth = {"depth": 1} if bench.tiny else {}
    model = harope.DiT(size, encoding="harope", num_classes=1000, **depth)
    model = fold(model.to(bench.device).eval())

    def sample() -> Tensor:
        return generate(
            model,
            GaussianDiffusion(),
            shape=(4, 32, 32),
            labels=[1] * count,
            null_class=1000,
            seeds=range(count),
            device=bench.device,
            config=SamplingConfig(num_steps=steps, guidance=1.5, guidance_channels=3),
        )

    contexts: dict[str, contextlib.AbstractContextManager[Any]] = {
        "as harope sample": contextlib.nullcontext(),
        "bfloat16": torch.autocast(bench.device.type, torch.bfloat16),
    }
    found: Result = {}
    for name, context in contexts.items():
        with context:
            sample()
            bench.synchronize()
            began = time.perf_counter()
            sample()
            bench.synchronize()
        milliseconds = 1e3 * (time.perf_counter() - began) / steps
        found[name] = {"ms_per_step": round(milliseconds, 2)}
    if bench.on_gpu:
        found["syncs"] = count_syncs(sample)
    return found


def _compare_encoding(bench: Bench, name: str) -> Result:
    torch.manual_seed(0)
    options = {"grid_sizes": (16, 16)} if name == "ape-learned" else {}
    model = harope.DiT(
        "DiT-S/2", depth=2, encoding=name, num_classes=NUM_CLASSES, encoding_options=options
    )
    with torch.no_grad():
        # The initial output is zero, and the initial matrices are the identity.
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    inputs, dropped = _inputs(torch.device("cpu"))
    expected = model(*inputs, drop_labels=dropped)
    model = model.to(bench.device)
    inputs, dropped = tuple(x.to(bench.device) for x in inputs), dropped.to(bench.device)
    difference = _difference(model(*inputs, drop_labels=dropped), expected)
    with torch.autocast(bench.device.type, torch.bfloat16):
        loss = model(*inputs, drop_labels=dropped).square().mean()
    (loss + 1e-4 * model.regularization()).backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    model.eval()
    with torch.no_grad():
        model(*inputs)
    return {
        "against the CPU": difference,
        "finite": all(gradient.isfinite().all().item() for gradient in gradients),
    }


def _run_graphs(bench: Bench, encoding: str, train: bool) -> str:
    model = harope.DiT("DiT-S/2", depth=2, encoding=encoding, num_classes=NUM_CLASSES)
    model = model.to(bench.device).train(train)
    network = torch.compile(model, mode="reduce-overhead") if bench.on_gpu else model
    inputs, dropped = _inputs(bench.device)
    # The first calls record the graph.
    for _ in range(3):
        if train:
            network(*inputs, drop_labels=dropped).square().mean().backward()
        else:
            with torch.no_grad():
                network(*inputs)
    bench.synchronize()
    return "ok"


def _inputs(device: torch.device) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return latents, times and labels of four samples, and that no label is dropped."""
    x, t = torch.randn(4, 4, 32, 32, device=device), 1000 * torch.rand(4, device=device)
    labels = torch.arange(4, device=device)
    return (x, t, labels), torch.zeros(4, dtype=torch.bool, device=device)


@torch.no_grad()
def _difference(outputs: Tensor, expected: Tensor) -> float:
    difference = (outputs.cpu() - expected).abs().max() / expected.abs().max()
    return float(f"{difference.item():.2g}")
