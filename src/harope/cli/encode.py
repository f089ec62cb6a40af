"""`harope encode`."""

import argparse
from pathlib import Path

SUMMARY = "make latents of images by any diffusers AutoencoderKL"
EXAMPLE = "harope encode imagenet/train latents/imagenet256 --vae stabilityai/sd-vae-ft-ema"
