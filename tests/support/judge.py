"""Random judges of a few thousand weights, in the hub's layout, and judges that know the answer."""

from pathlib import Path

import numpy as np
import torch

from harope.lab.evals.geneval.class_names import CLASS_NAMES
from harope.lab.evals.geneval.rules import COLORS, Detection
from harope.lab.evals.local_models import ModelInfo
from support.text import save_clip_tokenizer

WORDS = ["is", "there", "a", "dog", "cat", "yes", "no", "user", "assistant", ":", "?"]
TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }} : {% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image> {% else %}{{ part['text'] }} {% endif %}"
    "{% endfor %}{% endfor %}{% if add_generation_prompt %}assistant :{% endif %}"
)
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

    ids = save_clip_tokenizer(folder, ["a", "photo", "of", "-", "colored", "dog", "cat", *COLORS])
    begin, end = ids["<|startoftext|>"], ids["<|endoftext|>"]
    narrow = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    # Large weights: small ones make all texts alike.
    heads = {"num_attention_heads": 2, "initializer_factor": 10.0}
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
    tokenizer = BertTokenizer(str(folder / "vocab.txt"), additional_special_tokens=["[DEC]"])
    BlipProcessor(processor, tokenizer).save_pretrained(folder)
    return folder


def save_llava(folder: Path) -> Path:
    """A LLaVA with a chat template."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
        PreTrainedTokenizerFast,
    )

    ids = {token: i for i, token in enumerate(["<pad>", "</s>", "<unk>", "<image>", *WORDS])}
    words = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    )
    narrow = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 2}
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            image_size=16, patch_size=8, num_attention_heads=2, **narrow
        ),
        text_config=LlamaConfig(
            vocab_size=len(ids), num_attention_heads=2, pad_token_id=0, eos_token_id=1, **narrow
        ),
        image_token_index=ids["<image>"],
        image_seq_length=4,
    )
    _save(folder, lambda: LlavaForConditionalGeneration(config))
    pictures = CLIPImageProcessor(size={"shortest_edge": 16}, crop_size=16)
    LlavaProcessor(
        pictures,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
    ).save_pretrained(folder)
    return folder


def _save(folder: Path, make) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        make().save_pretrained(folder)


class KnownDetector:
    """Finds as many dogs as the first pixel's red, cats as its green, side by side, dogs left.

    Their scores are a hundredth of its blue.
    """

    info = ModelInfo("known", "KnownDetector", "0", "Mask2Former swin-s of mmdetection")

    def __init__(self, folder: Path, device: object = "cpu"):
        self.batches: list[int] = []

    def __call__(self, images, min_score: float) -> list[list[Detection]]:
        self.batches.append(len(images))
        return [self._found(image, min_score) for image in images]

    def _found(self, image: np.ndarray, min_score: float) -> list[Detection]:
        dogs, cats, score = map(int, image[0, 0])
        names = ["dog"] * dogs + ["cat"] * cats
        return [
            Detection(name, score / 100, (20.0 * place, 0.0, 20.0 * place + 10, 10.0))
            for place, name in enumerate(names)
            if score / 100 > min_score
        ]


class KnownColors:
    """Everything is red."""

    info = ModelInfo("known", "KnownColors", "0", "CLIP ViT-L/14 of open_clip")

    def __init__(self, folder: Path, device: object = "cpu"):
        pass

    def __call__(self, image, objects, name: str) -> list[str]:
        return ["red"] * len(objects)


class KnownVQA:
    """Says yes to `... N ...` where bit N of a tile's first red is set."""

    info = ModelInfo("known", "KnownVQA", "0", "mPLUG large of modelscope")

    def __init__(self) -> None:
        self.asked = 0

    def __call__(self, images, questions) -> list[str]:
        self.asked += len(questions)
        numbers = [int(next(word for word in q.split() if word.isdigit())) for q in questions]
        return [
            "yes" if int(image[0, 0, 0]) >> number & 1 else "no"
            for image, number in zip(images, numbers, strict=True)
        ]
