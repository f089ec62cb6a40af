"""`harope encode`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harope._utils.ranks import rank

if TYPE_CHECKING:
    from harope.lab.data import FiniteCaptionedDataset

SUMMARY = "encode images with classes or captions into latents by a diffusers AutoencoderKL"
EXAMPLE = "harope encode imagenet/train data/imagenet256 --vae stabilityai/sd-vae-ft-ema"
EXTRA = "train,diffusers"
CAPTIONED = ("captioned-folder", "webdataset", "hub", "coco", "emoji")
"""Kinds of captioned datasets that can be encoded."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `harope encode`.

    Args:
        parser: Parser of the command.
    """
    parser.add_argument(
        "images", help="images: folder with one sub-folder per class, or see --kind"
    )
    parser.add_argument("out", type=Path, help="folder for the latents")
    parser.add_argument("--vae", required=True, help="AutoencoderKL: folder or hub id")
    parser.add_argument(
        "--subfolder", help="sub-folder of the VAE: `vae` if --vae is a whole pipeline"
    )
    parser.add_argument(
        "--kind", choices=("folder", *CAPTIONED), default="folder", help="kind of the dataset"
    )
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="field of a captioned dataset, such as annotations=captions_train2017.json for coco; "
        "repeatable",
    )
    parser.add_argument(
        "--image-size", type=int, default=256, help="side of the centre crop in pixels"
    )
    parser.add_argument(
        "--form",
        choices=("shards", "npy"),
        default="shards",
        help="format of the latents: safetensors shards, or one .npy file",
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="dtype of the latents"
    )
    parser.add_argument(
        "--posterior",
        choices=("sample", "mode"),
        default="sample",
        help="latent to store: a sample of the posterior, or its mode",
    )
    parser.add_argument(
        "--flip", action="store_true", help="also encode the mirror image of every image"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the posterior samples")
    parser.add_argument(
        "--max-left-out",
        type=float,
        metavar="FRACTION",
        help="largest fraction of what looks like data that may be left out (default: 0.1)",
    )
    parser.add_argument("--batch-size", type=int, default=32, help="number of images at once")
    parser.add_argument(
        "--num-workers", type=int, default=0, help="number of processes that read images"
    )


def run(options: argparse.Namespace) -> None:
    """Encode the images that are missing, and print how to train on the latents.

    Args:
        options: Parsed arguments.

    Raises:
        ValueError: If the arguments contradict each other, the data is invalid, or the folder
            contains other latents.
        OSError: If a file or the VAE is missing.
    """
    from harope._utils.distributed import this_process
    from harope.lab.data.latents.vae import load_vae

    encode = _encode_classes if options.kind == "folder" else _encode_captions
    if options.kind == "folder" and options.field:
        raise ValueError(
            f"--field {options.field[0]} only applies to captioned datasets; pass their --kind"
        )
    if options.kind != "folder" and options.form != "shards":
        raise ValueError(f"--form {options.form} cannot store captions; use shards")
    device = this_process().device
    encode(options, lambda: load_vae(options.vae, options.subfolder).to(device))


def _encode_classes(options: argparse.Namespace, vae: Callable[[], Any]) -> None:
    from harope.lab.data.labelled.folder import FolderDataConfig, ImageFolderDataset
    from harope.lab.data.latents.encode import encode_images

    config = FolderDataConfig(
        root=options.images, image_size=options.image_size, **_left_out(options)
    )
    source = ImageFolderDataset(config.root, config.image_size, max_left_out=config.max_left_out)
    encode_images(source, vae(), options.out, form=options.form, **_how(options))
    if rank() > 0:
        return
    print(f"{len(source)} images of {source.num_classes} classes: {options.out}")
    fields = f"--data.root {options.out}"
    if options.form == "npy":
        pair = f"--data.features {options.out}/features.npy --data.labels {options.out}/labels.npy"
        fields = f"--data.root null {pair}"
    classes = f"--data.num_classes {source.num_classes} --model.num_classes {source.num_classes}"
    print(f"train on it: harope train imagenet-dit {fields} {classes}")


def _encode_captions(options: argparse.Namespace, vae: Callable[[], Any]) -> None:
    from harope.lab.data.latents.captioned import encode_captioned

    source = _captioned(options)
    encode_captioned(source, vae(), options.out, **_how(options))
    if rank() > 0:
        return
    print(f"{len(source)} images with captions: {options.out}")
    print(f"train on it with --data.kind captioned-latents --data.root {options.out}")


def _captioned(options: argparse.Namespace) -> "FiniteCaptionedDataset":
    """Open the captioned dataset that `--kind` and `--field` describe."""
    from harope.lab.data.captioned.base import FiniteCaptionedDataset
    from harope.lab.data.registry import create_captioned_config, open_captioned_dataset

    fields = dict(field.partition("=")[::2] for field in options.field)
    config = create_captioned_config(
        options.kind,
        root=options.images,
        image_size=options.image_size,
        **_left_out(options),
        **fields,
    )
    source = open_captioned_dataset(config, seed=0)
    assert isinstance(source, FiniteCaptionedDataset)
    return source


def _left_out(options: argparse.Namespace) -> dict[str, Any]:
    """Return the field `max_left_out` of the data config, if it was given."""
    return {} if options.max_left_out is None else {"max_left_out": options.max_left_out}


def _how(options: argparse.Namespace) -> dict[str, Any]:
    """Return the arguments that apply to datasets with classes and with captions."""
    from harope._utils.distributed import workers

    names = ("dtype", "flip", "posterior", "seed", "batch_size", "num_workers", "quiet")
    values = {name: getattr(options, name) for name in names}
    return values | {"workers": workers()}
