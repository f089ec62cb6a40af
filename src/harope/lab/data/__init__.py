"""Training data as numbered draws: built-in scenes, image files, latents, and ways to make them."""

from harope.lab.data.captioned.base import (
    CaptionedBatch,
    CaptionedFilesSource,
    CaptionedSource,
    FiniteCaptionedSource,
    distinct_captions,
)
from harope.lab.data.captioned.coco import CocoData
from harope.lab.data.captioned.emoji import EmojiData
from harope.lab.data.captioned.folder import CaptionedFolderData
from harope.lab.data.captioned.hub import HubData, HubSource
from harope.lab.data.captioned.scenes import (
    CaptionedScenesData,
    CaptionedScenesSource,
    held_out_prompts,
)
from harope.lab.data.captioned.webdataset import WebDatasetData, WebDatasetSource
from harope.lab.data.dataset import (
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
from harope.lab.data.labelled.digits import DigitsData, DigitsSource
from harope.lab.data.labelled.folder import FolderData, ImageFolderSource
from harope.lab.data.labelled.idx import IdxData, IdxSource
from harope.lab.data.labelled.scenes import ScenesData, ScenesSource
from harope.lab.data.latents.captioned import (
    CaptionedLatentsData,
    CaptionedLatentsSource,
    encode_captioned,
)
from harope.lab.data.latents.encode import decode_latents, encode_images, load_vae
from harope.lab.data.latents.files import LatentFilesSource, LatentPairSource, LatentsData
from harope.lab.data.latents.manifest import Encoding, Manifest, load_manifest
from harope.lab.data.latents.shards import LatentShardSource, LatentShardWriter
from harope.lab.data.registry import CaptionedDataConfig, DataConfig, open_captioned, open_source
from harope.lab.data.synthetic import (
    make_captioned_folder,
    make_idx,
    make_image_folder,
    make_latent_pair,
)

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
