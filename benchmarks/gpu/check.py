"""Check and time harope on one GPU, and print one JSON object as the last line.

    PYTHONPATH=src python benchmarks/gpu/check.py [--out FILE.json] [--budget SECONDS] [--tiny]

It takes less than 8 minutes on an H100. Needed are torch, triton, numpy, safetensors and jaxtyping;
accelerate and pydantic for the parts that train; timm for the part with timm's models. Neither
diffusers nor a network is needed. A part that fails is an entry of the JSON and does not end the
others. `--only NAME,NAME` runs some parts; `--tiny --cpu` runs all of them in small on a CPU.
"""

import argparse
import contextlib
import importlib.util
import json
import os
import statistics
import sys
import tempfile
import time
import traceback
import types
import warnings
from pathlib import Path

os.environ.pop("TRITON_INTERPRET", None)
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "8")
STARTED = time.monotonic()


def stand_ins() -> list[str]:
    """tqdm, tensorboard and sklearn stand-ins, where a bare machine lacks them: harope.lab.training
    imports the first two at its top, and reads digits only when asked to."""
    made = []

    def module(name: str, **values) -> None:
        fresh = types.ModuleType(name)
        vars(fresh).update(values)
        # find_spec of a module without a spec raises.
        fresh.__spec__ = importlib.util.spec_from_loader(name, loader=None)
        sys.modules[name] = fresh
        made.append(name)

    def lacks(name: str) -> bool:
        try:
            return importlib.util.find_spec(name) is None
        except ImportError:
            return True

    if lacks("tqdm"):

        class tqdm:
            def __init__(self, iterable=None, **_):
                self._iterable = iterable

            def __iter__(self):
                return iter(self._iterable)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                return None

            def __getattr__(self, _):
                return lambda *a, **k: None

        module("tqdm", tqdm=tqdm)
        module("tqdm.auto", tqdm=tqdm)
    if lacks("tensorboard"):

        class SummaryWriter:
            def __init__(self, *_, **__):
                pass

            def __getattr__(self, _):
                return lambda *a, **k: None

        module("torch.utils.tensorboard", SummaryWriter=SummaryWriter)
    return made


import torch  # noqa: E402

STAND_INS = stand_ins()


class Bench:
    """The parts, their time, and what they found."""

    def __init__(self, options):
        self.options = options
        self.tiny = options.tiny
        cuda = torch.cuda.is_available() and not options.cpu
        self.device = torch.device("cuda", 0) if cuda else torch.device("cpu")
        self.cuda = cuda
        self.found = {"parts": {}, "seconds": {}, "failed": {}}

    def left(self) -> float:
        return self.options.budget - (time.monotonic() - STARTED)

    def part(self, name, function, needs=20.0):
        only = self.options.only
        if only and name not in only.split(","):
            return
        if self.left() < needs:
            self.found["failed"][name] = f"skipped: {self.left():.0f} s left"
            return
        started = time.monotonic()
        print(f"[{started - STARTED:6.1f} s] {name}", flush=True)
        try:
            self.found["parts"][name] = function()
        except Exception as error:
            tail = traceback.format_exc().strip().splitlines()[-6:]
            self.found["failed"][name] = f"{type(error).__name__}: {str(error)[:600]}"
            print("   FAILED", "\n   ".join(tail), flush=True)
        self.found["seconds"][name] = round(time.monotonic() - started, 2)
        if self.cuda:
            with contextlib.suppress(Exception):
                torch.cuda.empty_cache()
        self.write()

    def write(self):
        if self.options.out:
            Path(self.options.out).write_text(json.dumps(self.found, indent=1) + "\n")

    def sync(self):
        if self.cuda:
            torch.cuda.synchronize()

    def milliseconds(self, work, seconds=0.25, most=200) -> float:
        """Median over several runs of one call, by events on a GPU."""
        for _ in range(3):
            work()
        self.sync()
        begun = time.perf_counter()
        work()
        self.sync()
        once = max(time.perf_counter() - begun, 1e-6)
        rounds = 3 if self.tiny else max(5, min(most, int(seconds / once)))
        if not self.cuda:
            times = []
            for _ in range(rounds):
                begun = time.perf_counter()
                work()
                times.append(1e3 * (time.perf_counter() - begun))
            return statistics.median(times)
        marks = [
            (torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True))
            for _ in range(rounds)
        ]
        flush = torch.empty(64 << 20, dtype=torch.uint8, device=self.device)
        for first, last in marks:
            flush.zero_()  # What lies in the L2 cache would flatter small tensors.
            first.record()
            work()
            last.record()
        self.sync()
        return statistics.median(first.elapsed_time(last) for first, last in marks)


# --- environment -------------------------------------------------------------------------------


def environment(bench):
    def version(name):
        from importlib.metadata import PackageNotFoundError, version

        try:
            return version(name)
        except PackageNotFoundError:
            return None

    names = (
        "torch",
        "triton",
        "timm",
        "transformers",
        "accelerate",
        "safetensors",
        "jaxtyping",
        "pydantic",
        "numpy",
        "diffusers",
        "tqdm",
        "tensorboard",
        "pillow",
    )
    found = {
        "python": sys.version.split()[0],
        **{name: version(name) for name in names},
        "stand_ins": STAND_INS,
        "device": str(bench.device),
    }
    if bench.cuda:
        p = torch.cuda.get_device_properties(0)
        found |= {
            "gpu": p.name,
            "sm": f"{p.major}.{p.minor}",
            "gib": round(p.total_memory / 2**30),
            "processors": p.multi_processor_count,
            "cuda": torch.version.cuda,
        }
        free, total = torch.cuda.mem_get_info()
        found["free_gib"] = round(free / 2**30, 1)
    return found


def imports(bench):
    """Which parts of the package import on this machine, without the extras it lacks."""
    import pkgutil

    import harope

    failed, count = {}, 0
    for module in pkgutil.walk_packages(harope.__path__, "harope."):
        if module.name.endswith(".main"):
            continue
        try:
            importlib.import_module(module.name)
            count += 1
        except Exception as error:
            failed[module.name] = f"{type(error).__name__}: {str(error)[:120]}"
    return {"imported": count, "failed": failed}


# --- kernels -----------------------------------------------------------------------------------


def packed(shape, dtype, device):
    b, h, n, d = shape
    qkv = torch.randn(b, n, 3, h, d, device=device).to(dtype)
    return qkv.permute(2, 0, 3, 1, 4)[:2].unbind(0)


def table_of(kind, shape, device, dtype=torch.float32):
    b, h, n, d = shape
    size = {
        "shared": (n, d // 2),
        "head": (h, n, d // 2),
        "sample": (b, 1, n, d // 2),
        "both": (b, h, n, d // 2),
    }[kind]
    angles = 7 * torch.randn(size, device=device, dtype=dtype)
    return angles.cos(), angles.sin()


def roundings(ours, exact):
    """Largest error over eps |x| + 3 eps32 max |x|: 1 is one rounding of the dtype."""
    eps = torch.finfo(ours.dtype).eps
    wide = 3 * torch.finfo(torch.float32).eps * exact.abs().max()
    return ((ours.double() - exact).abs() / (eps * exact.abs() + wide)).max().item()


def rotation_accuracy(bench):
    from harope.rope._fast.triton import rotate_qk
    from harope.rope.rotate import rotate as rotate_formula

    found, worst = {}, 0.0
    dims = (32, 64) if bench.tiny else (16, 32, 48, 64, 72, 80, 96, 128, 256)
    for d in dims:
        # Every variant is compiled, about a second each.
        dtypes = (torch.float32, torch.bfloat16, torch.float16) if d == 64 else (torch.bfloat16,)
        for dtype in dtypes:
            for layout in ("interleaved", "half") if d in (64, 72) else ("interleaved",):
                for kind in ("shared", "head", "sample", "both") if d == 64 else ("shared",):
                    shape = (2, 3, 67, d)
                    q, k = packed(shape, dtype, bench.device)
                    cos, sin = table_of(kind, shape, bench.device)
                    name = f"{d} {str(dtype)[6:]} {layout} {kind}"
                    try:
                        out = rotate_qk(q, k, cos, sin, interleaved=layout == "interleaved")
                    except Exception as error:
                        found[name] = f"{type(error).__name__}: {str(error)[:200]}"
                        continue
                    for ours, x in zip(out, (q, k)):
                        exact = rotate_formula(x.double(), cos.double(), sin.double(), layout)
                        error = roundings(ours, exact)
                        worst = max(worst, error)
                        if not error <= 1:
                            found[name] = error
    return {"worst_roundings": worst, "wrong_or_failed": found}


def rotation_gradients(bench):
    from harope.rope._fast.triton import rotate_qk
    from harope.rope.rotate import rotate as rotate_formula

    found, worst = {}, 0.0
    for d in (64,) if bench.tiny else (64, 72, 128):
        for kind in ("shared", "head", "sample", "both"):
            for layout in ("interleaved", "half"):
                # Past the number of partial sums (16).
                shape = (19 if kind in ("shared", "head") else 3, 3, 67, d)
                q, k = (x.requires_grad_() for x in packed(shape, torch.float32, bench.device))
                cos, sin = (x.requires_grad_() for x in table_of(kind, shape, bench.device))
                q, k = q.detach().requires_grad_(), k.detach().requires_grad_()
                cos, sin = cos.detach().requires_grad_(), sin.detach().requires_grad_()
                name = f"{d} {kind} {layout}"
                try:
                    w = [torch.randn_like(x) for x in (q, k)]
                    out = rotate_qk(q, k, cos, sin, interleaved=layout == "interleaved")
                    ours = torch.autograd.grad(
                        sum((a * b).sum() for a, b in zip(out, w)), (q, k, cos, sin)
                    )
                    wide = [x.detach().double().requires_grad_() for x in (q, k, cos, sin)]
                    out = [rotate_formula(x, *wide[2:], layout) for x in wide[:2]]
                    exact = torch.autograd.grad(
                        sum((a * b.double()).sum() for a, b in zip(out, w)), wide
                    )
                    error = max(
                        ((a.double() - b).abs().max() / b.abs().max()).item()
                        for a, b in zip(ours, exact)
                    )
                    worst = max(worst, error)
                    if not error < 1e-5:
                        found[name] = error
                except Exception as error:
                    found[name] = f"{type(error).__name__}: {str(error)[:200]}"
    return {"worst_relative": worst, "wrong_or_failed": found}


def normed_case(bench, shape, dtype, layout, backward=True):
    """Errors of the normed kernel against float64: in roundings, and of gradients relative."""
    from harope.rope._fast.triton import normed_qk
    from harope.rope.rotate import rotate as rotate_formula

    d = shape[-1]
    q, k = (x.detach().requires_grad_() for x in packed(shape, dtype, bench.device))
    m = [
        (torch.randn(shape[1], d, d, device=bench.device) / d**0.5).requires_grad_()
        for _ in range(2)
    ]
    cos, sin = table_of("shared", shape, bench.device)
    out = normed_qk(q, k, *m, cos, sin, eps=1e-5, interleaved=layout == "interleaved")
    wide = [x.detach().double().requires_grad_() for x in (q, k, *m)]
    exact = []
    for x, a in zip(wide[:2], wide[2:]):
        unit = x / (x.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        exact.append(rotate_formula(unit @ a.mT, cos.double(), sin.double(), layout))
    error = max(roundings(a.detach(), b.detach()) for a, b in zip(out, exact))
    if not backward:
        return [round(error, 2), None]
    w = [torch.randn_like(x) for x in out]
    ours = torch.autograd.grad(
        sum((a.float() * b.float()).sum() for a, b in zip(out, w)), (q, k, *m)
    )
    right = torch.autograd.grad(sum((a * b.double()).sum() for a, b in zip(exact, w)), wide)
    grad = max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in zip(ours, right))
    return [round(error, 2), float(f"{grad:.2g}")]


def normed_accuracy(bench):
    """Compiling takes 1 to 22 s a forward kernel, 5 to 58 s a backward one (ahead of time)."""
    found, failed, seconds = {}, {}, {}
    variants = [
        ((2, 3, 131, 32), torch.bfloat16, "interleaved", True),
        ((2, 12, 256, 64), torch.bfloat16, "interleaved", True),
        ((2, 3, 131, 64), torch.float32, "half", False),
        ((2, 24, 512, 128), torch.bfloat16, "interleaved", False),
    ]
    for shape, dtype, layout, backward in variants[:1] if bench.tiny else variants:
        name = f"{shape[-1]} {str(dtype)[6:]} {layout}"
        begun = time.monotonic()
        try:
            found[name] = normed_case(bench, shape, dtype, layout, backward)
        except Exception as error:
            failed[name] = f"{type(error).__name__}: {str(error)[:200]}"
        seconds[name] = round(time.monotonic() - begun, 1)
    return {"roundings_and_gradient": found, "failed": failed, "seconds": seconds}


def normed_backward(bench):
    """FLUX's backward kernel, last as it takes a minute to compile."""
    from harope.rope._fast.dispatch import _normed_rotate
    from harope.rope._fast.triton import normed_qk
    from harope.rope.rotate import RotationTable

    begun = time.monotonic()
    # Both shapes are one specialisation of the kernel.
    found = {
        "against float64": normed_case(bench, (2, 24, 512, 128), torch.bfloat16, "interleaved")
    }
    found["seconds of the first call"] = round(time.monotonic() - begun, 1)
    shape = (8, 24, 4608, 128)
    q, k = (x.detach().requires_grad_() for x in packed(shape, torch.bfloat16, bench.device))
    m = [
        (torch.randn(24, 128, 128, device=bench.device) / 128**0.5).requires_grad_()
        for _ in range(2)
    ]
    table = RotationTable(*table_of("shared", shape, bench.device))
    grads = [torch.randn(shape, device=bench.device).bfloat16() for _ in range(2)]

    def kernel():
        out = normed_qk(q, k, *m, *table, eps=1e-6, interleaved=True)
        torch.autograd.grad(out, (q, k, *m), grads)

    def torch_eager():
        out = [_normed_rotate(x, table, a, None, 1e-6, "interleaved") for x, a in zip((q, k), m)]
        torch.autograd.grad(out, (q, k, *m), grads)

    found["kernel, forward and backward, ms"] = round(bench.milliseconds(kernel, most=10), 3)
    found["plain torch, forward and backward, ms"] = round(
        bench.milliseconds(torch_eager, most=10), 3
    )
    return found


def kernel_speed(bench):
    from harope.rope._fast.dispatch import rotate
    from harope.rope._fast.triton import normed_qk, rotate_qk
    from harope.rope.rotate import rotate as rotate_formula

    found = {}
    shapes = {
        "dit-b 16": (16, 12, 256, 64),
        "flux 8": (8, 24, 4608, 128),
        "dit-b 256": (256, 12, 256, 64),
        "dit-xl 64 (72)": (64, 16, 256, 72),
    }
    if bench.tiny:
        shapes = {"tiny": (1, 2, 64, 32)}
    for title, shape in shapes.items():
        for dtype in (torch.bfloat16, torch.float32):
            if dtype == torch.float32 and title != "dit-b 256":
                continue
            q, k = packed(shape, dtype, bench.device)
            dense_q, dense_k = q.contiguous(), k.contiguous()
            cos, sin = table_of("shared", shape, bench.device)
            size = 4 * q.numel() * q.element_size()  # read and written, q and k
            into = torch.empty_like(dense_q), torch.empty_like(dense_k)

            def copy(a=dense_q, b=dense_k, into=into):
                into[0].copy_(a)
                into[1].copy_(b)

            works = {
                "copy": copy,
                "copy of packed": lambda: copy(q, k),
                "kernel, packed": lambda: rotate_qk(q, k, cos, sin, interleaved=True),
                "kernel, dense": lambda: rotate_qk(dense_q, dense_k, cos, sin, interleaved=True),
                "kernel, dense, half": lambda: rotate_qk(
                    dense_q, dense_k, cos, sin, interleaved=False
                ),
                "eager torch": lambda: [rotate(x, cos, sin) for x in (q, k)],
            }
            if not bench.tiny:
                turn = torch.compile(rotate_formula, dynamic=False)
                works["compiled"] = lambda: [turn(x, cos, sin, "interleaved") for x in (q, k)]
            d = shape[-1]
            m = [torch.randn(shape[1], d, d, device=bench.device) / d**0.5 for _ in range(2)]
            if d in (32, 64, 128) and dtype == torch.bfloat16:
                works["normed kernel, packed"] = lambda: normed_qk(
                    q, k, *m, cos, sin, eps=1e-6, interleaved=True
                )
            row = {}
            for name, work in works.items():
                try:
                    with torch.no_grad():
                        ms = bench.milliseconds(work)
                    row[name] = {"ms": round(ms, 4), "gb_per_s": round(size / ms / 1e6)}
                except Exception as error:
                    row[name] = f"{type(error).__name__}: {str(error)[:200]}"
            try:
                grads = [torch.randn_like(x) for x in (dense_q, dense_k)]
                leaves = [x.detach().requires_grad_() for x in (q, k)]
                own = [x.clone().requires_grad_() for x in (cos, sin)]

                def learned_backward():
                    out = rotate_qk(*leaves, *own, interleaved=True)
                    torch.autograd.grad(out, (*leaves, *own), grads)

                row["learned table, forward and backward"] = {
                    "ms": round(bench.milliseconds(learned_backward), 4)
                }
            except Exception as error:
                row["backward"] = f"{type(error).__name__}: {str(error)[:200]}"
            found[f"{title} {str(dtype)[6:]}"] = row
    return found


# --- the exponential ---------------------------------------------------------------------------


def exponential(bench):
    """Time of a step's matrices, and whether TF32 (set_float32_matmul_precision) breaks them."""
    from harope.rope._fast.exponential import skew_exp

    count, d = (4, 16) if bench.tiny else (288, 64)
    s = torch.randn(count, d, d, device=bench.device)
    s = (s - s.mT) / (2 * (2 * d) ** 0.5)
    found = {}
    before = torch.get_float32_matmul_precision()
    for precision in ("highest", "high"):
        torch.set_float32_matmul_precision(precision)
        with torch.no_grad():
            a = skew_exp(s)
            eye = torch.eye(d, device=bench.device, dtype=torch.float64)
            off = (a.double() @ a.double().mT - eye).abs().max().item()
            exact = torch.linalg.matrix_exp(s.double())
            found[precision] = {
                "not orthogonal by": off,
                "error": (a.double() - exact).abs().max().item(),
            }
    torch.set_float32_matmul_precision(before)
    leaf = s.clone().requires_grad_()

    def work():
        skew_exp(leaf).sum().backward()
        leaf.grad = None

    found["ms, forward and backward"] = bench.milliseconds(work)
    with torch.no_grad():
        found["ms of torch.linalg.matrix_exp, forward"] = bench.milliseconds(
            lambda: torch.linalg.matrix_exp(s), most=20
        )
    return found


# --- every encoding trains on the device ----------------------------------------------------------


def every_encoding(bench):
    """Forward, backward, and a step of a small DiT by every encoding, against the CPU."""
    import harope

    found = {}
    for name in harope.list_encodings():
        # string-circulant: matrices made on the CPU.
        try:
            torch.manual_seed(0)
            options = {"grid_sizes": (16, 16)} if name == "ape-learned" else {}
            model = harope.DiT(
                "DiT-S/2", depth=2, encoding=name, num_classes=10, encoding_options=options
            )
            with torch.no_grad():
                for p in model.parameters():
                    p.add_(0.02 * torch.randn_like(p))
            x, t, y = torch.randn(4, 4, 32, 32), torch.rand(4) * 1000, torch.arange(4)
            drop = torch.zeros(4, dtype=torch.bool)
            here = model(x, t, y, drop_labels=drop)
            model = model.to(bench.device)
            there = model(
                *(v.to(bench.device) for v in (x, t, y)), drop_labels=drop.to(bench.device)
            )
            error = ((there.cpu() - here).abs().max() / here.abs().max()).item()
            with torch.autocast(bench.device.type, torch.bfloat16):
                loss = (
                    model(
                        *(v.to(bench.device) for v in (x, t, y)), drop_labels=drop.to(bench.device)
                    )
                    .square()
                    .mean()
                )
            (loss + 1e-4 * model.regularization().to(bench.device)).backward()
            finite = all(
                p.grad.isfinite().all().item() for p in model.parameters() if p.grad is not None
            )
            model.eval()
            with torch.no_grad():
                model(*(v.to(bench.device) for v in (x, t, y)))
            found[name] = {"against the CPU": float(f"{error:.2g}"), "finite": finite}
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:300]}"
    return found


# --- training speed ------------------------------------------------------------------------------


def step_flops(config, batch, tokens=256):
    """Of forward and backward, 2 per multiply and add."""
    w = config.width
    layer = tokens * (12 * w * w + 2 * tokens * w) + 6 * w * w
    return 3 * 2 * batch * config.depth * layer


def dit_speed(bench, compiled):
    import harope
    from harope.lab.training.optim import EMA
    from harope.rope import parameter_groups

    size, batch, rounds = ("DiT-B/2", 256, 12) if not bench.tiny else ("DiT-S/2", 2, 1)
    found = {}
    for name in ("none", "axial", "harope"):
        if bench.left() < (60 if compiled else 25):
            found[name] = f"skipped: {bench.left():.0f} s left"
            continue
        try:
            torch.manual_seed(0)
            options = {"depth": 1} if bench.tiny else {}
            model = harope.DiT(size, encoding=name, num_classes=1000, **options).to(bench.device)
            model.train()
            ema = EMA(model, 0.9999)
            optimizer = torch.optim.AdamW(parameter_groups(model, 0.0), lr=1e-4, fused=True)
            run = torch.compile(model) if compiled else model
            x = torch.randn(batch, 4, 32, 32, device=bench.device)
            t = 1000 * torch.rand(batch, device=bench.device)
            y = torch.randint(1000, (batch,), device=bench.device)
            drop = torch.rand(batch, device=bench.device) < 0.1

            def step():
                with torch.autocast(bench.device.type, torch.bfloat16):
                    out = run(x, t, y, drop_labels=drop)
                loss = out[:, :4].float().sub(x).square().mean()
                (loss + 1e-4 * model.regularization().to(bench.device)).backward()
                optimizer.step()
                optimizer.zero_grad()
                ema.update()

            begun = time.perf_counter()
            for _ in range(3):
                step()
            bench.sync()
            warm = time.perf_counter() - begun
            if bench.cuda:
                torch.cuda.reset_peak_memory_stats()
            begun = time.perf_counter()
            for _ in range(rounds):
                step()
            queued = time.perf_counter() - begun  # How long the CPU takes: near `taken`, it waits.
            bench.sync()
            taken = (time.perf_counter() - begun) / rounds
            flops = step_flops(model.config, batch) / taken
            found[name] = {
                "images_per_s": round(batch / taken, 1),
                "ms": round(1e3 * taken, 2),
                "cpu_ms": round(1e3 * queued / rounds, 2),
                "tflop_per_s": round(flops / 1e12, 1),
                "share_of_989": round(flops / 989e12, 3),
                "warm_up_s": round(warm, 1),
                "gib": round(torch.cuda.max_memory_allocated() / 2**30, 2) if bench.cuda else None,
            }
            if bench.cuda and not compiled:
                found[name]["syncs"] = count_syncs(step)
            del model, optimizer, ema, run
        except Exception as error:
            found[name] = f"{type(error).__name__}: {str(error)[:300]}"
        finally:
            torch._dynamo.reset()
            if bench.cuda:
                torch.cuda.empty_cache()
    return found


def count_syncs(step):
    """Places of a step that wait for the GPU, as torch warns of them."""
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    places = {}
    for warning in caught:
        if "synchroniz" in str(warning.message):
            place = f"{Path(warning.filename).name}:{warning.lineno}"
            places[place] = places.get(place, 0) + 1
    return places


def sampling_speed(bench):
    import harope
    from harope.diffusion import GaussianDiffusion
    from harope.diffusion.generate import SamplingConfig, generate
    from harope.models.dit import fold

    model = harope.DiT(
        "DiT-B/2" if not bench.tiny else "DiT-S/2",
        encoding="harope",
        num_classes=1000,
        **({"depth": 1} if bench.tiny else {}),
    )
    model = fold(model.to(bench.device).eval())
    count, steps = (64, 20) if not bench.tiny else (2, 3)

    def draw():
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

    found = {}
    for name, context in (
        ("as harope sample", contextlib.nullcontext()),
        ("bfloat16", torch.autocast(bench.device.type, torch.bfloat16)),
    ):
        with context:
            draw()
            bench.sync()
            begun = time.perf_counter()
            draw()
            bench.sync()
        found[name] = {"ms_per_step": round(1e3 * (time.perf_counter() - begun) / steps, 2)}
    if bench.cuda:
        found["syncs"] = count_syncs(draw)
    return found


def timm_host(bench):
    import timm

    import harope

    found = {}
    for name in ("vit_tiny_patch16_224",):
        for encoding in ("axial", "harope", "mixed", "string-circulant"):
            try:
                torch.manual_seed(0)
                model = timm.create_model(name, num_classes=10, dynamic_img_size=True, depth=2)
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    harope.install(model, encoding, keep_absolute=False)
                x = torch.randn(8, 3, 224, 224)
                here = model(x)
                model.to(bench.device)
                there = model(x.to(bench.device))
                error = ((there.cpu() - here).abs().max() / here.abs().max()).item()
                there.square().mean().backward()
                found[f"{name} {encoding}"] = float(f"{error:.2g}")
            except Exception as error:
                found[f"{name} {encoding}"] = f"{type(error).__name__}: {str(error)[:300]}"
    return found


def two_graphs(bench):
    """CUDA graphs by torch.compile, in training and unfolded inference."""
    import harope

    found = {}
    for name in ("axial", "harope"):
        for mode in ("train", "eval"):
            try:
                torch._dynamo.reset()
                model = harope.DiT("DiT-S/2", depth=2, encoding=name, num_classes=10)
                model = model.to(bench.device)
                model.train(mode == "train")
                run = torch.compile(model, mode="reduce-overhead") if bench.cuda else model
                x, t = (
                    torch.randn(4, 4, 32, 32, device=bench.device),
                    torch.rand(4, device=bench.device),
                )
                y, drop = (
                    torch.arange(4, device=bench.device),
                    torch.zeros(4, dtype=torch.bool, device=bench.device),
                )
                for _ in range(3):
                    if mode == "train":
                        run(x, t, y, drop_labels=drop).square().mean().backward()
                    else:
                        with torch.no_grad():
                            run(x, t, y)
                bench.sync()
                found[f"{name} {mode}"] = "ok"
            except Exception as error:
                found[f"{name} {mode}"] = f"{type(error).__name__}: {str(error)[:300]}"
    torch._dynamo.reset()
    return found


def scenes_training(bench):
    """200 steps of scenes-dit through the package's own loop; images per second, and the loss."""
    from dataclasses import replace

    from harope.lab.recipes.scenes import scenes_dit
    from harope.lab.training.logging import read_metrics
    from harope.lab.training.loop import train

    steps = 200 if not bench.tiny else 4
    found = {}
    for encoding in ("axial", "harope"):
        config = scenes_dit()
        model = replace(config.model, encoding=encoding)
        if bench.tiny:
            model = replace(model, depth=1, width=32, num_heads=2)
        config = replace(
            config,
            model=model,
            steps=steps,
            batch_size=64 if not bench.tiny else 4,
            log_every=max(1, steps // 10),
            checkpoint_every=steps,
            sample_every=10 * steps,
            num_workers=4 if bench.cuda else 0,
            num_samples=4,
            sampling=replace(config.sampling, num_steps=2),
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


def render_speed(bench):
    """What a process draws of scenes a second: the ceiling of scenes-dit without workers."""
    from harope.lab.data.labelled.scenes import ScenesDataset

    source, count = ScenesDataset(32), 16 if bench.tiny else 256
    source.samples(range(8))
    begun = time.perf_counter()
    source.samples(range(count))
    return {"images_per_s": round(count / (time.perf_counter() - begun), 1)}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out")
    parser.add_argument("--budget", type=float, default=470)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--cpu", action="store_true")
    parser.add_argument("--only")
    bench = Bench(parser.parse_args())
    if bench.tiny and not bench.cuda:
        # A dry run: Triton's interpreter stands for the GPU.
        os.environ["TRITON_INTERPRET"] = "1"
    torch.manual_seed(0)
    bench.part("environment", lambda: environment(bench), needs=0)
    bench.part("imports", lambda: imports(bench))
    bench.part("rotation_accuracy", lambda: rotation_accuracy(bench))
    bench.part("rotation_gradients", lambda: rotation_gradients(bench))
    bench.part("normed_accuracy", lambda: normed_accuracy(bench))
    bench.part("every_encoding", lambda: every_encoding(bench))
    bench.part("exponential", lambda: exponential(bench))
    bench.part("kernel_speed", lambda: kernel_speed(bench))
    bench.part("dit_eager", lambda: dit_speed(bench, False))
    bench.part("scenes_training", lambda: scenes_training(bench))
    bench.part("render_speed", lambda: render_speed(bench))
    bench.part("sampling_speed", lambda: sampling_speed(bench))
    bench.part("timm_host", lambda: timm_host(bench))
    if not bench.tiny:
        bench.part("dit_compiled", lambda: dit_speed(bench, True), needs=70)
        bench.part("cuda_graphs", lambda: two_graphs(bench), needs=45)
        bench.part("normed_backward", lambda: normed_backward(bench), needs=80)
    bench.found["total_s"] = round(time.monotonic() - STARTED, 1)
    bench.write()
    print(json.dumps(bench.found))


if __name__ == "__main__":
    main()
