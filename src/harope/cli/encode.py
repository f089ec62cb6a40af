"""`harope encode`."""

import argparse
from pathlib import Path

SUMMARY = "make latents of a folder of images by any diffusers AutoencoderKL"
EXAMPLE = "harope encode imagenet/train data/imagenet256 --vae stabilityai/sd-vae-ft-ema"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Images, where to, and how."""
    parser.add_argument("images", type=Path, help="folder of images, one sub-folder per class")
    parser.add_argument("out", type=Path, help="folder of the latents")
    parser.add_argument("--vae", required=True, help="AutoencoderKL: folder or hub id")
    parser.add_argument("--subfolder", help="where a pipeline keeps its VAE: vae")
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

    from harope.data.encode import encode_images, load_vae
    from harope.data.folder import ImageFolderSource

    source = ImageFolderSource(options.images, options.image_size)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    vae = load_vae(options.vae, options.subfolder).to(device)
    encode_images(
        source,
        vae,
        options.out,
        form=options.form,
        dtype=options.dtype,
        flip=options.flip,
        posterior=options.posterior,
        seed=options.seed,
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        quiet=options.quiet,
    )
    print(f"{len(source)} images of {source.num_classes} classes: {options.out}")
    fields = f"--data.root {options.out}"
    if options.form == "npy":
        pair = f"--data.features {options.out}/features.npy --data.labels {options.out}/labels.npy"
        fields = f"--data.root null {pair}"
    classes = f"--data.num_classes {source.num_classes} --model.num_classes {source.num_classes}"
    print(f"train on it: harope train imagenet-dit {fields} {classes}")
