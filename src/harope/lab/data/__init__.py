"""Datasets of numbered samples: built-in scenes, image files and latents, and their encoding."""

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
    LabelledDataset,
    Shuffle,
    items_in_order,
    loader,
    sample_numbers,
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
from harope.lab.data.latents.encode import encode_images
from harope.lab.data.latents.files import LatentFilesDataset, LatentPairDataset, LatentsDataConfig
from harope.lab.data.latents.manifest import LatentSpec, Manifest, load_manifest
from harope.lab.data.latents.shards import LatentShardDataset, LatentShardWriter
from harope.lab.data.latents.vae import decode_latents, load_vae
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
    "FiniteCaptionedDataset",
    "FiniteDataset",
    "FiniteLabelledDataset",
    "FolderDataConfig",
    "HubDataConfig",
    "HubDataset",
    "IdxDataConfig",
    "IdxDataset",
    "ImageFolderDataset",
    "LabelledDataset",
    "LatentFilesDataset",
    "LatentPairDataset",
    "LatentShardDataset",
    "LatentShardWriter",
    "LatentSpec",
    "LatentsDataConfig",
    "Manifest",
    "ScenesDataConfig",
    "ScenesDataset",
    "Shuffle",
    "TarShardDataset",
    "WebDatasetDataConfig",
    "decode_latents",
    "distinct_captions",
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
    "sample_numbers",
]
