"""Training data as numbered draws: built-in scenes, image files, latents, and ways to make them."""

from harope.data.captioned import (
    CaptionedBatch,
    CaptionedFilesSource,
    CaptionedSource,
    FiniteCaptionedSource,
    distinct_captions,
)
from harope.data.captioned_folder import CaptionedFolderData
from harope.data.captioned_latents import (
    CaptionedLatentsData,
    CaptionedLatentsSource,
    encode_captioned,
)
from harope.data.captioned_scenes import (
    CaptionedScenesData,
    CaptionedScenesSource,
    held_out_prompts,
)
from harope.data.coco import CocoData
from harope.data.digits import DigitsData, DigitsSource
from harope.data.emoji import EmojiData
from harope.data.encode import decode_latents, encode_images, load_vae
from harope.data.folder import FolderData, ImageFolderSource
from harope.data.hub import HubData, HubSource
from harope.data.idx import IdxData, IdxSource
from harope.data.latents import LatentFilesSource, LatentPairSource, LatentsData
from harope.data.made import (
    make_captioned_folder,
    make_idx,
    make_image_folder,
    make_latent_pair,
)
from harope.data.manifest import Encoding, Manifest, load_manifest
from harope.data.registry import CaptionedDataConfig, DataConfig, open_captioned, open_source
from harope.data.scenes import ScenesData, ScenesSource
from harope.data.shards import LatentShardSource, LatentShardWriter
from harope.data.source import (
    Batch,
    FiniteSource,
    FiniteStream,
    Shuffle,
    Source,
    Stream,
    draws,
    items_in_order,
    loader,
)
from harope.data.webdataset import WebDatasetData, WebDatasetSource

__all__ = [
    "Batch",
    "CaptionedBatch",
    "CaptionedDataConfig",
    "CaptionedFilesSource",
    "CaptionedFolderData",
    "CaptionedLatentsData",
    "CaptionedLatentsSource",
    "CaptionedScenesData",
    "CaptionedScenesSource",
    "CaptionedSource",
    "CocoData",
    "DataConfig",
    "DigitsData",
    "DigitsSource",
    "EmojiData",
    "Encoding",
    "FiniteCaptionedSource",
    "FiniteSource",
    "FiniteStream",
    "FolderData",
    "HubData",
    "HubSource",
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
    "Stream",
    "WebDatasetData",
    "WebDatasetSource",
    "decode_latents",
    "distinct_captions",
    "draws",
    "encode_captioned",
    "encode_images",
    "held_out_prompts",
    "items_in_order",
    "load_manifest",
    "load_vae",
    "loader",
    "make_captioned_folder",
    "make_idx",
    "make_image_folder",
    "make_latent_pair",
    "open_captioned",
    "open_source",
]
