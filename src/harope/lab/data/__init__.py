"""Training data as numbered draws: built-in scenes, image files, latents, and ways to make them."""

from harope.lab.data.captioned.base import (
    CaptionedBatch,
    CaptionedDataset,
    CaptionedFilesDataset,
    FiniteCaptionedDataset,
    distinct_captions,
)
from harope.lab.data.captioned.coco import CocoDataConfig
from harope.lab.data.captioned.emoji import EmojiDataConfig
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig
from harope.lab.data.captioned.hub import HubDataConfig, HubDataset
from harope.lab.data.captioned.scenes import (
    CaptionedScenesDataConfig,
    CaptionedScenesDataset,
    held_out_prompts,
)
from harope.lab.data.captioned.webdataset import TarShardDataset, WebDatasetDataConfig
from harope.lab.data.dataset import (
    Batch,
    Dataset,
    FiniteDataset,
    FiniteLabelledDataset,
    Shuffle,
    Source,
    draws,
    items_in_order,
    loader,
)
from harope.lab.data.labelled.digits import DigitsDataConfig, DigitsDataset
from harope.lab.data.labelled.folder import FolderDataConfig, ImageFolderDataset
from harope.lab.data.labelled.idx import IdxDataConfig, IdxDataset
from harope.lab.data.labelled.scenes import ScenesDataConfig, ScenesDataset
from harope.lab.data.latents.captioned import (
    CaptionedLatentsDataConfig,
    CaptionedLatentsDataset,
    encode_captioned,
)
from harope.lab.data.latents.encode import decode_latents, encode_images, load_vae
from harope.lab.data.latents.files import LatentFilesDataset, LatentPairDataset, LatentsDataConfig
from harope.lab.data.latents.manifest import Encoding, Manifest, load_manifest
from harope.lab.data.latents.shards import LatentShardDataset, LatentShardWriter
from harope.lab.data.registry import (
    CaptionedDataConfig,
    DataConfig,
    open_captioned_dataset,
    open_dataset,
)
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
    "CaptionedDataset",
    "CaptionedFilesDataset",
    "CaptionedFolderDataConfig",
    "CaptionedLatentsDataConfig",
    "CaptionedLatentsDataset",
    "CaptionedScenesDataConfig",
    "CaptionedScenesDataset",
    "CocoDataConfig",
    "DataConfig",
    "Dataset",
    "DigitsDataConfig",
    "DigitsDataset",
    "EmojiDataConfig",
    "Encoding",
    "FiniteCaptionedDataset",
    "FiniteDataset",
    "FiniteLabelledDataset",
    "FolderDataConfig",
    "HubDataConfig",
    "HubDataset",
    "IdxDataConfig",
    "IdxDataset",
    "ImageFolderDataset",
    "LatentFilesDataset",
    "LatentPairDataset",
    "LatentShardDataset",
    "LatentShardWriter",
    "LatentsDataConfig",
    "Manifest",
    "ScenesDataConfig",
    "ScenesDataset",
    "Shuffle",
    "Source",
    "TarShardDataset",
    "WebDatasetDataConfig",
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
    "open_captioned_dataset",
    "open_dataset",
]
