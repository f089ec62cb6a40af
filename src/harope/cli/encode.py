"""`harope encode`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harope.lab.data import FiniteCaptionedDataset

SUMMARY = "make latents of images, with classes or captions, by any diffusers AutoencoderKL"
EXAMPLE = "harope encode imagenet/train data/imagenet256 --vae stabilityai/sd-vae-ft-ema"
CAPTIONED = ("captioned-folder", "webdataset", "hub", "coco", "emoji")
"""Kinds of captioned data that can be encoded, beside a folder of classes."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images, where to, and how."""
    parser.add_argument("images", help="folder of images, one sub-folder per class; see --kind")
    parser.add_argument("out", type=Path, help="folder of the latents")
    parser.add_argument("--vae", required=True, help="AutoencoderKL: folder or hub id")
    parser.add_argument("--subfolder", help="where a pipeline keeps its VAE: vae")
    parser.add_argument(
        "--kind", choices=("folder", *CAPTIONED), default="folder", help="of the images (folder)"
    )
    parser.add_argument(
        "--field",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of captioned data, such as annotations=captions_train2017.json for coco",
    )
    parser.add_argument("--image-size", type=int, default=256, help="centre crop in pixels (256)")
    parser.add_argument(
        "--form", choices=("shards", "npy"), default="shards", help="files to write (shards)"
    )
    parser.add_argument(
        "--dtype", choices=("float32", "float16"), default="float32", help="of latents (float32)"
    )
    parser.add_argument(
        "--posterior", choices=("sample", "mode"), default="sample", help="which latent (sample)"
    )
    parser.add_argument("--flip", action="store_true", help="also encode every image mirrored")
    parser.add_argument("--seed", type=int, default=0, help="of the posterior's samples (0)")
    parser.add_argument("--batch-size", type=int, default=32, help="images at once (32)")
    parser.add_argument("--num-workers", type=int, default=0, help="processes that read (0)")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")


def run(options: argparse.Namespace) -> None:
    """Encode what is missing, and print how to train on it."""
    import torch

    from harope.lab.data.latents.vae import load_vae

    encode = _encode_classes if options.kind == "folder" else _encode_captions
    if options.kind == "folder" and options.field:
        raise ValueError(f"--field {options.field[0]} is for captioned data: name its --kind")
    if options.kind != "folder" and options.form != "shards":
        raise ValueError(f"--form {options.form} has no place for captions: use shards")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    encode(options, lambda: load_vae(options.vae, options.subfolder).to(device))


def _encode_classes(options: argparse.Namespace, vae: Callable[[], Any]) -> None:
    from harope.lab.data.labelled.folder import ImageFolderDataset
    from harope.lab.data.latents.encode import encode_images

    source = ImageFolderDataset(options.images, options.image_size)
    encode_images(source, vae(), options.out, form=options.form, **_how(options))
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
    print(f"{len(source)} images with captions: {options.out}")
    print(f"train on it with --data.kind captioned-latents --data.root {options.out}")


def _captioned(options: argparse.Namespace) -> "FiniteCaptionedDataset":
    """The data that ``--kind`` and ``--field`` describe."""
    from harope.lab.data.captioned.base import FiniteCaptionedDataset
    from harope.lab.data.registry import create_captioned_config, open_captioned_dataset

    fields = dict(field.partition("=")[::2] for field in options.field)
    config = create_captioned_config(
        options.kind, root=options.images, image_size=options.image_size, **fields
    )
    source = open_captioned_dataset(config, seed=0)
    assert isinstance(source, FiniteCaptionedDataset)
    return source


def _how(options: argparse.Namespace) -> dict[str, Any]:
    """The arguments that both kinds of data share."""
    names = ("dtype", "flip", "posterior", "seed", "batch_size", "num_workers", "quiet")
    return {name: getattr(options, name) for name in names}
