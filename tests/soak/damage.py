"""Damaged and hostile files: what commands do with them, with a limit of memory and time."""

import gzip
import io
import json
import resource
import shutil
import struct
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from harope.cli.main import main
from soak.crashes import Tally, Workplace, compare
from soak.faults import Outcome, Work, trial
from soak.scenarios import run_digest, tree_digest

GIB = 2**30
MEMORY = 3 * GIB
"""Memory that a command may take in addition to what the test process has."""

Damage = Callable[[bytes], bytes | None]
"""Returns the damaged content of a file, or None to remove it."""


def _flip(position: float, bit: int) -> Damage:
    def flip(content: bytes) -> bytes:
        index = min(len(content) - 1, int(len(content) * position))
        return content[:index] + bytes([content[index] ^ bit]) + content[index + 1 :]

    return flip


DAMAGES: dict[str, Damage] = {
    "truncated": lambda content: content[: len(content) // 2],
    "empty": lambda content: b"",
    "bit flipped near the end": _flip(0.9, 0x40),
    "bit flipped in the middle": _flip(0.5, 0x08),
    "bit flipped in the header": _flip(0.01, 0x10),
    "zeros": lambda content: bytes(len(content)),
    "removed": lambda content: None,
}

RUN_FILES = ("config.json", "metrics.jsonl")
CHECKPOINT_FILES = (
    "model.safetensors",
    "ema.safetensors",
    "optimizer.safetensors",
    "config.json",
    "state.json",
)


class DamageTest:
    """A finished run with one damaged file: the training goes on, and samples are drawn.

    Args:
        folder: Folder to work in.
    """

    def __init__(self, folder: Path) -> None:
        self.place = Workplace(folder)
        self.run, self.good = self.place.root / "run", self.place.inputs / "run"
        self.samples = self.place.root / "samples"
        assert _train(self.good, 4)() == 0
        self._restore()
        self.expected = self._trained(self._trial(_train(self.run, 6)))
        self._restore()
        self.expected_samples = self._sampled(self._trial(self._sample()))

    def all_files(self) -> Iterator[Tally]:
        """Damage every file in every way, and repeat both commands."""
        checkpoint = f"checkpoints/{max(p.name for p in (self.good / 'checkpoints').iterdir())}"
        files = [*RUN_FILES, *(f"{checkpoint}/{name}" for name in CHECKPOINT_FILES)]
        commands = {
            "train goes on, damaged file": (_train(self.run, 6), self._trained, self.expected),
            "sample, damaged file": (self._sample(), self._sampled, self.expected_samples),
        }
        for title, (work, result, expected) in commands.items():
            tally = Tally(title)
            for name in files:
                for how, damage in DAMAGES.items():
                    self._restore()
                    _damage(self.run / name, damage)
                    outcome = self._trial(work)
                    self._judge(tally, f"{name} {how}", outcome, result, expected)
            yield tally

    def _judge(
        self,
        tally: Tally,
        name: str,
        outcome: Outcome,
        result: Callable[[Outcome], Any],
        expected: Any,
    ) -> None:
        if outcome.code != 0:
            last = outcome.text.strip().splitlines()[-1:]
            tally.add("refused" if outcome.is_refusal else "traceback", name, str(last))
            return
        try:
            verdict, seen = compare(result(outcome), expected)
        except Exception as error:  # Whatever is missing or damaged is a loss.
            verdict, seen = "lost", f"{type(error).__name__}: {error}"
        # An older checkpoint may be sampled if it is said which one is damaged.
        if verdict == "silent" and "damaged" in outcome.text:
            verdict, seen = "refused", "a warning names the damaged file"
        tally.add(verdict, name, seen)

    def _restore(self) -> None:
        self.place.clear()
        shutil.copytree(self.good, self.run)

    def _sample(self) -> Work:
        out = ["--out", str(self.samples), "--count", "2", "--quiet"]
        return lambda: main(["sample", str(self.run), *out])

    def _trained(self, outcome: Outcome) -> Any:
        found = run_digest(self.run)
        # The lines before the damage are history, not state.
        found["metrics"] = found["metrics"][-1]
        return found

    def _sampled(self, outcome: Outcome) -> Any:
        return {name: sha for name, sha in tree_digest(self.samples).items() if "png" in name}

    def _trial(self, work: Work) -> Outcome:
        return trial(work, self.place.root, self.place.scratch)


def _train(run: Path, steps: int) -> Work:
    counts = ["--steps", str(steps), "--sample_every", "2", "--checkpoint_every", "1"]
    command = ["train", "digits-dit", "--smoke", "--out", str(run), "--log_every", "1", "--quiet"]
    return lambda: main([*command, *counts])


def _damage(path: Path, damage: Damage) -> None:
    content = damage(path.read_bytes())
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@dataclass(frozen=True)
class Hostile:
    """A file that no program of ours writes, and a command that reads it."""

    name: str
    """What the file is."""
    write: Callable[[Path], None]
    """Writes it into a folder."""
    command: Callable[[Path], list[str]]
    """Arguments of the command that reads it."""


WRONG_JSON: dict[str, str] = {
    "list": "[]",
    "null": "null",
    "number": "7",
    "text": '"text"',
    "empty object": "{}",
    "nested lists": "[" * 100_000,
    "nested objects": '{"a":' * 100_000,
    "not a number": '{"step": NaN, "steps": NaN}',
    "infinity": '{"step": Infinity, "steps": 1e999}',
    "not UTF-8": "\udcff",
    "half": '{"step": 4, "lo',
    "numbers as text": '{"step": "four", "task": 4}',
    "unknown fields": '{"unknown": 1}',
    "escape codes": '{"\\u001b[31mred": "\\u001b[2J"}',
    "huge integer": '{"step": ' + "9" * 5000 + "}",
    "empty": "",
}

Change = Callable[[Any], Any]
WRONG_VALUES: dict[str, Any] = {
    "null": None,
    "list": [],
    "text": "text",
    "negative": -1,
    "not a number": float("nan"),
    "infinity": float("inf"),
    "enormous": 10**12,
    "true": True,
}


def hostile_files(good: Path) -> Iterator[Hostile]:
    """Yield hostile files and the commands that read them.

    Args:
        good: A finished run, which is copied before one of its files is replaced.
    """
    step = max(path.name for path in (good / "checkpoints").iterdir())
    json_files = (
        "config.json",
        f"checkpoints/{step}/config.json",
        f"checkpoints/{step}/state.json",
    )
    for name in (*json_files, "metrics.jsonl"):
        for what, text in WRONG_JSON.items():
            yield _in_run(good, f"{name}: {what}", name, text.encode(errors="surrogateescape"))
    for name in json_files:
        for field in _fields(json.loads((good / name).read_text())):
            for what, value in WRONG_VALUES.items():
                if len(field) == 1 or what in ("not a number", "text"):
                    content = _with_field(json.loads((good / name).read_text()), field, value)
                    title = f"{name}: {'.'.join(field)} is {what}"
                    yield _in_run(good, title, name, json.dumps(content).encode())
    yield from _archives()


def _in_run(good: Path, title: str, name: str, content: bytes) -> Hostile:
    def write(folder: Path) -> None:
        shutil.copytree(good, folder / "run")
        (folder / "run" / name).write_bytes(content)

    def command(folder: Path) -> list[str]:
        if "state" in name or "metrics" in name:
            out = ["--out", str(folder / "run"), "--steps", "6", "--sample_every", "2"]
            return ["train", "digits-dit", "--smoke", "--quiet", "--log_every", "1", *out]
        out = ["--out", str(folder / "samples"), "--count", "1", "--quiet"]
        return ["sample", str(folder / "run"), *out]

    return Hostile(title, write, command)


def _fields(values: Any, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(values, dict):
        for name, value in values.items():
            yield (*prefix, name)
            yield from _fields(value, (*prefix, name))


def _with_field(values: Any, field: tuple[str, ...], value: Any) -> Any:
    inside = values
    for name in field[:-1]:
        inside = inside[name]
    inside[field[-1]] = value
    return values


def _archives() -> Iterator[Hostile]:
    """Yield archives that claim sizes which they do not have, or names outside their folder."""

    def distances(folder: Path) -> list[str]:
        images = [str(folder / "file.npz"), "--reference", str(folder / "file.npz")]
        return ["evaluate", "distances", *images, "--extractor", "lite0"]

    def training(folder: Path) -> list[str]:
        out = ["--out", str(folder / "out"), "--steps", "1", "--data.root", str(folder)]
        return ["train", "fashion-dit", "--quiet", *out]

    for shape in ("(50000, 256, 256, 3)", "(-1, 8, 8, 3)", "(10**12,)", "(2, 8, 8, 3)"):
        yield Hostile(f"npz of shape {shape}", _npz(shape, b"\0" * 1000), distances)
    yield Hostile("npz of zeros, 6 GB", _npz("(2000, 1024, 1024, 3)", None), distances)
    yield Hostile("npz of objects", _pickled_npz, distances)
    for count in (60_000, 2**31 - 1, 2**32 - 1):
        yield Hostile(f"IDX of {count} images", _idx(count), training)


def _npz(shape: str, body: bytes | None) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}"
        header += " " * (63 - (len(header) + 10) % 64) + "\n"
        start = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
        with (
            zipfile.ZipFile(folder / "file.npz", "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("arr_0.npy", "w", force_zip64=True) as file,
        ):
            file.write(start)
            # Zeros are compressed a thousand times.
            for part in (body,) if body is not None else (bytes(2**24) for _ in range(375)):
                file.write(part)

    return write


def _pickled_npz(folder: Path) -> None:
    np.savez(folder / "file.npz", arr_0=np.array([{"a": 1}], dtype=object))


def _idx(count: int) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        images = struct.pack(">IIII", 0x803, count, 28, 28) + bytes(1000)
        labels = struct.pack(">II", 0x801, count) + bytes(1000)
        for name, content in (("images-idx3", images), ("labels-idx1", labels)):
            with gzip.open(folder / f"train-{name}-ubyte.gz", "wb") as file:
                file.write(content)

    return write


def tar_with(names: dict[str, bytes]) -> bytes:
    """Return a tar archive with files of any names."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def read_hostile_files(folder: Path, good: Path, stride: int) -> Tally:
    """Let the commands read every `stride`-th hostile file.

    Args:
        folder: Folder to work in.
        good: A finished run.
        stride: 1 for all files.

    Returns:
        Refusals, and what the commands accepted: "identical" counts files that are harmless.
    """
    tally, place = Tally("hostile files"), Workplace(folder)
    for hostile in list(hostile_files(good))[::stride]:
        place.clear()
        hostile.write(place.root)
        arguments = hostile.command(place.root)
        outcome = trial(_limited(arguments), place.root, place.scratch)
        escapes = "\x1b" in outcome.text
        if outcome.is_refusal and not escapes:
            tally.add("refused", hostile.name, "refused")
        elif outcome.code == 0 and not escapes:
            tally.add("identical", hostile.name)
        else:
            last = outcome.text.strip().splitlines()[-1:]
            tally.add("traceback", hostile.name, f"exit code {outcome.code}: {last}")
    return tally


def _limited(arguments: list[str]) -> Work:
    def work() -> int:
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
        return main(arguments)

    return work
