"""Running harope from outside, and comparing what it gives with numbers on disk.

Golden tests reach harope by its command line, by the names of `harope.__all__` and by files alone,
so that modules may move without an edit of the tests. The numbers lie in `tests/golden/*.json`;
`python tests/golden/regenerate.py` writes them anew.
"""

import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from harope._utils.checksums import write_checksums

HERE = Path(__file__).parents[1] / "golden"

ABSOLUTE = {"pixels": 1.0, "grey": 0.1, "right": 1.0}
"""Tolerances of values that are not compared relatively: grey levels, and counts."""


def command(*words: object) -> None:
    """Run `harope WORDS` on the CPU, in this process; it must succeed."""
    from harope.cli.main import main

    environment = mock.patch.dict(os.environ, {"ACCELERATE_USE_CPU": "true"})
    with environment, redirect_stdout(StringIO()):
        code = main([str(word) for word in words])
    assert code == 0, " ".join(map(str, words))


def released(name: str) -> Path:
    """The folder of a checkpoint that comes with the package."""
    import harope

    (folder,) = Path(str(harope.__file__)).parent.rglob(name)
    return folder


def read_numbers(topic: str) -> dict[str, Any]:
    """The pinned numbers of all cases of a topic."""
    return json.loads((HERE / f"{topic}.json").read_text())


def write_numbers(topic: str, numbers: dict[str, Any]) -> None:
    """The reverse: one line per case."""
    lines = (f"{json.dumps(case)}: {json.dumps(found)}" for case, found in numbers.items())
    (HERE / f"{topic}.json").write_text("{\n" + ",\n".join(lines) + "\n}\n")


def rounded(values: Iterable[float]) -> list[float]:
    """Eight digits, more than comparisons look at."""
    return [float(f"{value:.8g}") for value in values]


def summary(tensor: Tensor, count: int = 8) -> dict[str, Any]:
    """Shape, moments and `count` values of a tensor, evenly spread."""
    flat = tensor.detach().double().flatten()
    places = torch.linspace(0, len(flat) - 1, count).long()
    mean, std = rounded([float(flat.mean()), float(flat.std())])
    return {
        "shape": list(tensor.shape),
        "mean": mean,
        "std": std,
        "values": rounded(flat[places].tolist()),
    }


def pictures(folder: Path, count: int = 12) -> list[dict[str, Any]]:
    """Size, `count` values, moments and means of bands of every PNG in a folder, by name."""
    return [_picture(path, count) for path in sorted(folder.glob("*.png"))]


def _picture(path: Path, count: int) -> dict[str, Any]:
    with Image.open(path) as image:
        size, levels = image.size, list(image.tobytes())
    flat = torch.tensor(levels, dtype=torch.float64)
    places = torch.linspace(0, len(flat) - 1, count).long()
    return {
        "size": list(size),
        "grey": rounded(float(x) for x in (flat.std(), *(band.mean() for band in flat.chunk(16)))),
        "pixels": flat[places].tolist(),
    }


def moved(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights with noise, the same at every call, that makes scores and encodings matter."""
    generator = torch.Generator().manual_seed(0)
    result = {}
    for name, value in sorted(tensors.items()):
        width = value.shape[-1] if value.ndim else 1
        # Two low-rank factors and their scale multiply each other.
        size = 0.5 if "harope." in name else (0.05 if "lora_" in name else 0.5) / width**0.5
        result[name] = value + size * torch.randn(value.shape, generator=generator)
    return result


@contextmanager
def seeded() -> Iterator[None]:
    """The same draws inside at every call, and none outside that are shifted by them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def move_checkpoint(checkpoint: Path) -> None:
    """Both sets of weights of a checkpoint, in place, with the checksums of the new files."""
    for stem in ("model", "ema"):
        path = checkpoint / f"{stem}.safetensors"
        save_file(moved(load_file(path)), path, metadata={"format": "pt"})
    write_checksums(checkpoint)


def assert_same(
    found: Any, expected: Any, relative: float, where: str = "", absolute: float = 0.0
) -> None:
    """Compare nested numbers within a tolerance, which is that of the "std" where one is beside."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys(), where
        std = relative * expected.get("std", 0.0)
        for name, value in expected.items():
            near = ABSOLUTE.get(name, std)
            assert_same(found[name], value, relative, f"{where}/{name}", near)
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for index, value in enumerate(expected):
            assert_same(found[index], value, relative, f"{where}/{index}", absolute)
    elif isinstance(expected, float):
        close = math.isclose(found, expected, rel_tol=relative, abs_tol=absolute)
        assert close, f"{where} is {found}, not {expected}"
    else:
        assert found == expected, where
