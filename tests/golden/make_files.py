"""How the files under `tests/golden/files` were made; kept as a record.

They stand for what users have on disk from before: `harope` without a word about pairing, when
"same" was the default. Run today, this writes today's formats, so it takes a folder and leaves
the old files alone:

    python tests/golden/make_files.py FOLDER
"""

import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

sys.path.insert(1, str(Path(__file__).parents[1]))

SMALL = ("--model.depth", 2, "--model.num_heads", 2, "--optimizer.warmup_steps", 0)
WIDTH = ("--model.width", 16)
NARROW = (
    "--model.head_dim", 8, "--model.text_channels", 32, "--model.pooled_channels", 32,
    "--text.channels", 32,
)  # fmt: skip
LONG = ("--batch_size", 32, "--log_every", 100, "--sample_every", 300)
GOING_ON = ("--optimizer.decay", 0, "--log_every", 1, "--encoding", "axial")


def make_run(recipe: str, run: Path, steps: int, *fields: object) -> Path:
    """A run in its smoke form; returns its one checkpoint."""
    from support.golden import command

    command(
        "train", recipe, "--smoke", "--quiet", "--out", run, "--steps", steps,
        "--checkpoint_every", steps, *SMALL, *fields,
    )  # fmt: skip
    shutil.rmtree(run / "tensorboard")
    shutil.rmtree(run / "samples", ignore_errors=True)
    return run / "checkpoints" / f"step-{steps:08d}"


def make_moved_run(recipe: str, run: Path, *fields: object) -> None:
    """A run with weights far from fresh, and without the optimizer's state."""
    from support.golden import move_checkpoint

    checkpoint = make_run(recipe, run, 2, *fields)
    move_checkpoint(checkpoint)
    (checkpoint / "optimizer.safetensors").unlink()


def make_trained_run(recipe: str, run: Path, *fields: object) -> None:
    """A classifier that has learned, with its encoding moved far."""
    checkpoint = make_run(recipe, run, 300, *LONG, *fields)
    (checkpoint / "optimizer.safetensors").unlink()
    generator = torch.Generator().manual_seed(0)
    weights = load_file(checkpoint / "ema.safetensors")
    for name in sorted(name for name in weights if "harope." in name):
        weights[name] += 0.4 * torch.randn(weights[name].shape, generator=generator)
    for stem in ("ema", "model"):
        save_file(weights, checkpoint / f"{stem}.safetensors", metadata={"format": "pt"})


def make_models(folder: Path) -> None:
    """A model in the hub's layout, and encodings apart from their models."""
    import harope
    from support.golden import moved, seeded
    from support.host import flux, move_encodings, vit

    size = harope.DiTConfig(depth=2, width=16, num_heads=2, patch_size=2, num_classes=10)
    with seeded():
        model = harope.DiT(size, encoding="harope")
    model.load_state_dict(moved(model.state_dict()))
    model.save_pretrained(folder / "dit")
    for name, host in {"vit": vit(), "flux": flux()}.items():
        harope.install(host, "harope")
        move_encodings(host)
        harope.save_encoding(host, folder / f"{name}-encoding")


def main() -> None:
    """Everything into the folder given."""
    folder = Path(sys.argv[1])
    make_moved_run("scenes-dit", folder / "scenes-dit", *WIDTH)
    make_moved_run("scenes-mmdit", folder / "scenes-mmdit", *NARROW)
    make_trained_run("digits-vit", folder / "digits-vit", *WIDTH)
    make_run("digits-vit", folder / "digits-vit-axial", 4, *WIDTH, *GOING_ON)
    make_models(folder)


if __name__ == "__main__":
    main()
