"""`harope convert`."""

import argparse
from pathlib import Path

from harope._utils.atomic import atomic_folder, write_json_atomic

SUMMARY = "convert a run or a facebookresearch/DiT checkpoint to the layout of the hub"
EXAMPLE = "harope convert DiT-XL-2-256x256.pt converted/dit-xl"
EXTRA = "train"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope convert`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument("checkpoint", type=Path, help="run folder, checkpoint folder or .pt file")
    parser.add_argument("out", type=Path, help="new folder for config.json and model.safetensors")
    parser.add_argument(
        "--weights", choices=("ema", "model"), default="ema", help="EMA or raw weights"
    )
    parser.add_argument("--half", action="store_true", help="store weights in float16")
    parser.add_argument(
        "--num-heads", type=int, help="number of heads of a .pt file whose size is not a known one"
    )


def run(options: argparse.Namespace) -> None:
    """Convert a checkpoint, and print its size and encoding.

    Args:
        options: Options of the command.

    Raises:
        ValueError: If the output folder is not empty.
    """
    from harope.lab.sampling.runs import TRAIN_FILE, find_train_config
    from harope.lab.training.class_names import CLASSES_FILE, trained_classes
    from harope.lab.training.serialization import to_json
    from harope.lab.training.tasks.class_conditional import TrainConfig
    from harope.models.dit import DiT

    if options.out.exists() and any(options.out.iterdir()):
        raise ValueError(f"{options.out} is not empty; choose another folder")
    model = DiT.from_checkpoint(
        options.checkpoint, weights=options.weights, num_heads=options.num_heads
    )
    train = find_train_config(options.checkpoint)
    with atomic_folder(options.out) as temporary:
        (model.half() if options.half else model).save_pretrained(temporary)
        if train is not None:
            write_json_atomic(temporary / TRAIN_FILE, to_json(train))
        if isinstance(train, TrainConfig) and (
            names := trained_classes(options.checkpoint, train.data)
        ):
            write_json_atomic(temporary / CLASSES_FILE, names)
    count = sum(parameter.numel() for parameter in model.parameters())
    print(f"{options.out}: {count:,} parameters, encoding {model.config.encoding}")
