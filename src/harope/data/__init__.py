"""Training data as numbered draws: built-in scenes, image files, latents, and ways to make them."""

from harope.data.digits import DigitsData, DigitsSource
from harope.data.encode import decode_latents, encode_images, load_vae
from harope.data.folder import FolderData, ImageFolderSource
from harope.data.idx import IdxData, IdxSource
from harope.data.latents import LatentFilesSource, LatentPairSource, LatentsData
from harope.data.made import make_idx, make_image_folder, make_latent_pair
from harope.data.manifest import Encoding, Manifest, load_manifest
from harope.data.registry import DataConfig, open_source
from harope.data.scenes import ScenesData, ScenesSource
from harope.data.shards import LatentShardSource, LatentShardWriter
from harope.data.source import (
    Batch,
    FiniteSource,
    Shuffle,
    Source,
    draws,
    items_in_order,
    loader,
)

__all__ = [
    "Batch",
    "DataConfig",
    "DigitsData",
    "DigitsSource",
    "Encoding",
    "FiniteSource",
    "FolderData",
    "IdxData",
    "IdxSource",
    "ImageFolderSource",
    "LatentFilesSource",
    "LatentPairSource",
    "LatentShardSource",
    "LatentShardWriter",
    "LatentsData",
    "Manifest",
    "ScenesData",
    "ScenesSource",
    "Shuffle",
    "Source",
    "decode_latents",
    "draws",
    "encode_images",
    "items_in_order",
    "load_manifest",
    "load_vae",
    "loader",
    "make_idx",
    "make_image_folder",
    "make_latent_pair",
    "open_source",
]
