"""Random judges of a few thousand weights, in the hub's layout, and judges that know the answer."""

from pathlib import Path

import numpy as np
import torch

from harope.evaluation.coco import CLASS_NAMES
from harope.evaluation.geneval import Detection
from harope.evaluation.models_used import ModelUsed
from text_support import save_clip_tokenizer

WORDS = ["is", "there", "a", "dog", "cat", "yes", "no", "user", "assistant", ":", "?"]
# As the hub's configuration of Mask2Former on COCO spells some of them.
RESPELLED = {
    "motorcycle": "motorbike",
    "airplane": "aeroplane",
    "couch": "sofa",
    "potted plant": "pottedplant",
    "dining table": "diningtable",
    "tv": "tvmonitor",
    "computer mouse": "mouse",
    "tv remote": "remote",
    "computer keyboard": "keyboard",
}


def save_mask2former(folder: Path, labels: list[str] | None = None) -> Path:
    """A Mask2Former over a Swin, with COCO's labels or others."""
    from transformers import (
        Mask2FormerConfig,
        Mask2FormerForUniversalSegmentation,
        Mask2FormerImageProcessor,
        SwinConfig,
    )

    labels = labels or [RESPELLED.get(name, name) for name in CLASS_NAMES]
    backbone = SwinConfig(
        image_size=32,
        embed_dim=4,
        depths=[1, 1, 1, 1],
        num_heads=[1, 1, 1, 1],
        window_size=2,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    config = Mask2FormerConfig(
        backbone_config=backbone,
        hidden_dim=32,
        feature_size=32,
        mask_feature_size=32,
        encoder_layers=1,
        decoder_layers=2,
        num_attention_heads=2,
        encoder_feedforward_dim=8,
        dim_feedforward=8,
        num_queries=5,
        id2label=dict(enumerate(labels)),
    )
    _save(folder, lambda: Mask2FormerForUniversalSegmentation(config))
    size = {"shortest_edge": 64, "longest_edge": 96}
    Mask2FormerImageProcessor(size=size, size_divisor=32).save_pretrained(folder)
    return folder


def save_clip_model(folder: Path) -> Path:
    """A CLIP of both towers."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    ids = save_clip_tokenizer(folder)
    begin, end = ids["<|startoftext|>"], ids["<|endoftext|>"]
    narrow = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2}
    special = {"bos_token_id": begin, "eos_token_id": end, "pad_token_id": end}
    config = CLIPConfig(
        text_config={"vocab_size": len(ids), **narrow, **heads, **special},
        vision_config={"image_size": 16, "patch_size": 8, **narrow, **heads},
        projection_dim=6,
    )
    _save(folder, lambda: CLIPModel(config))
    size = {"shortest_edge": 16}
    CLIPImageProcessor(size=size, crop_size=16).save_pretrained(folder)
    return folder


def save_blip(folder: Path) -> Path:
    """A BLIP that answers questions."""
    from transformers import (
        BertTokenizer,
        BlipConfig,
        BlipForQuestionAnswering,
        BlipImageProcessor,
        BlipProcessor,
    )

    folder.mkdir(parents=True)
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS]
    (folder / "vocab.txt").write_text("\n".join(tokens))
    narrow = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    special = {"pad_token_id": 0, "bos_token_id": 5, "eos_token_id": 3, "sep_token_id": 3}
    config = BlipConfig(
        text_config={
            "vocab_size": len(tokens), "encoder_hidden_size": 8, "num_attention_heads": 2,
            "max_position_embeddings": 32, **narrow, **special,
        },
        vision_config={"image_size": 16, "patch_size": 8, "num_attention_heads": 2, **narrow},
        projection_dim=6,
    )  # fmt: skip
    _save(folder, lambda: BlipForQuestionAnswering(config))
    processor = BlipImageProcessor(size={"height": 16, "width": 16})
    BlipProcessor(processor, BertTokenizer(str(folder / "vocab.txt"))).save_pretrained(folder)
    return folder


def _save(folder: Path, make) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make().save_pretrained(folder)
