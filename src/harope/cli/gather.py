"""`harope gather`."""

import argparse
from pathlib import Path

SUMMARY = "make a whole checkpoint of a sharded one, which all other commands read"
EXAMPLE = "harope gather runs/imagenet"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope gather`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "checkpoint",
        type=Path,
        help="run folder, whose newest sharded checkpoint is taken, or a sharded checkpoint, such "
        "as RUN/checkpoints/step-00001000.sharded",
    )


def run(options: argparse.Namespace) -> None:
    """Write the whole checkpoint next to the sharded one, and print its path.

    Args:
        options: Options of the command.

    Raises:
        ValueError: If there is no sharded checkpoint, or it is damaged.
    """
    from harope.lab.training.sharded_checkpoint import gather_checkpoint
    from harope.models.checkpoint_files import is_sharded_checkpoint, list_all_checkpoints

    folders = list_all_checkpoints(options.checkpoint) or [options.checkpoint]
    sharded = [folder for folder in folders if is_sharded_checkpoint(folder) and folder.is_dir()]
    if not sharded:
        raise ValueError(
            f"{options.checkpoint} has no sharded checkpoint: pass a run that was trained with "
            f"--checkpoint_format sharded, or one of its checkpoints"
        )
    print(f"checkpoint: {gather_checkpoint(sharded[-1])}")
