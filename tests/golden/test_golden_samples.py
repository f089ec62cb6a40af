"""Samples of the checkpoints that come with the package."""

from pathlib import Path
from typing import Any

import pytest

from support.golden import assert_same, command, pictures, read_numbers, released

TOPIC = "samples"

OPTIONS: dict[str, tuple[object, ...]] = {
    "as trained": (),
    "larger": ("--height", 40, "--width", 48, "--scaling", "ntk"),
    "unguided": ("--guidance", 1, "--sampler", "euler"),
}
CASES = tuple(
    f"{name} {how}" for name in ("scenes-dit-harope", "scenes-dit-axial") for how in OPTIONS
)


def numbers(case: str, folder: Path) -> dict[str, Any]:
    """Three samples in six steps."""
    name, _, how = case.partition(" ")
    command(
        "sample", released(name), "--out", folder / "drawn", "--count", 3, "--labels", "7,60,120",
        "--num-steps", 6, "--quiet", *OPTIONS[how],
    )  # fmt: skip
    return {"pictures": pictures(folder / "drawn", 48)}


@pytest.mark.parametrize("case", CASES)
def test_samples_of_the_released_pair_are_the_pinned_ones(case, tmp_path):
    found = numbers(case, tmp_path)
    assert len(found["pictures"]) == 3
    assert_same(found, read_numbers(TOPIC)[case], 0.0)
