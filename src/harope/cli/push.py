"""`harope push`."""

import argparse
from pathlib import Path

SUMMARY = "upload a run to the Hugging Face Hub, with a model card"
EXAMPLE = "harope push runs/scenes-dit-harope user/scenes-dit-harope"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope push`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("folder", type=Path, metavar="run", help="run folder")
    parser.add_argument("hub_id", metavar="id", help="repository, created if it is missing")
    parser.add_argument("--private", action="store_true", help="make a new repository private")
    parser.add_argument(
        "--card-only",
        type=Path,
        metavar="DIR",
        help="upload nothing, but write the model card and all other files into this folder",
    )


def run(options: argparse.Namespace) -> None:
    """Upload a run, or write what would be uploaded.

    Args:
        options: Options of the command.
    """
    from harope.lab.training.publish import push_run, write_hub_folder

    if options.card_only is not None:
        print(f"files: {write_hub_folder(options.folder, options.card_only, options.hub_id)}")
        return
    url = push_run(options.folder, options.hub_id, private=options.private or None)
    print(f"uploaded: {url}")
