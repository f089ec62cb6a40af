"""Visual question answering with Hugging Face models in local folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from harope.lab.evals.local_models import (
    ModelInfo,
    describe_model,
    load_component,
    load_model,
    read_model_type,
)

OPTION = "--vqa"
OFFICIAL = "mPLUG large of modelscope"
CHAT_MODELS = {"llava": "LLaVA", "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL"}
CHAT_PROMPT = "Answer with one word, yes or no."


@runtime_checkable
class VQA(Protocol):
    """A network that answers questions about images."""

    info: ModelInfo
    """Identity of the network."""

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], questions: Sequence[str]
    ) -> list[str]:
        """Answer one question per RGB image, in lower case; DPG-Bench counts "yes" only."""
        ...


def load_vqa(folder: Path, device: torch.device | str = "cpu") -> VQA:
    """Load a BLIP model for question answering, or a vision-language chat model.

    Args:
        folder: Local folder of the model with its processor.
        device: Device to run it on.

    Returns:
        The network, in eval mode.

    Raises:
        ValueError: If the folder contains another model or is incomplete.
    """
    supported = {"blip": "BLIP, as blip-vqa-base", **CHAT_MODELS}
    if read_model_type(folder, supported, OPTION) == "blip":
        return BLIPVQA(folder, device)
    return ChatVQA(folder, device)


class BLIPVQA:
    """BLIP for visual question answering (Li et al. 2022, arXiv 2201.12086).

    Args:
        folder: Local folder of the model with its processor.
        device: Device to run it on.

    Raises:
        ValueError: If the folder is incomplete or damaged.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        from transformers import AutoProcessor, BlipForQuestionAnswering

        self._device = device
        self._prepare = load_component(AutoProcessor, folder, OPTION)
        self._model = load_model(BlipForQuestionAnswering, folder, OPTION).to(device)
        self.info = describe_model(self._model, folder, OFFICIAL)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], questions: Sequence[str]
    ) -> list[str]:
        inputs = _prepare_inputs(self._prepare, images, questions).to(
            self._device, self._model.dtype
        )
        generated = self._model.generate(**inputs, max_new_tokens=10)
        texts = self._prepare.batch_decode(generated, skip_special_tokens=True)
        return [first_word(text) for text in texts]


class ChatVQA:
    """A vision-language chat model, instructed to answer yes or no.

    Args:
        folder: Local folder of the model with its processor and chat template.
        device: Device to run it on.

    Raises:
        ValueError: If the folder is incomplete or damaged, or has no chat template.
    """

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._device = device
        self._prepare = load_component(AutoProcessor, folder, OPTION)
        if not self._prepare.chat_template:
            raise ValueError(f"{OPTION} {folder} has no chat template: download it again")
        # Generated tokens follow their prompts directly only if padding comes first.
        self._prepare.tokenizer.padding_side = "left"
        self._model = load_model(AutoModelForImageTextToText, folder, OPTION).to(device)
        self.info = describe_model(self._model, folder, OFFICIAL, CHAT_PROMPT)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], questions: Sequence[str]
    ) -> list[str]:
        texts = [self._prompt(question) for question in questions]
        inputs = _prepare_inputs(self._prepare, images, texts).to(self._device, self._model.dtype)
        generated = self._model.generate(**inputs, max_new_tokens=5, do_sample=False)
        new = generated[:, inputs["input_ids"].shape[1] :]
        answers = self._prepare.batch_decode(new, skip_special_tokens=True)
        return [first_word(answer) for answer in answers]

    def _prompt(self, question: str) -> str:
        content: list[dict[str, Any]] = [
            {"type": "image"},
            {"type": "text", "text": f"{question} {CHAT_PROMPT}"},
        ]
        message = [{"role": "user", "content": content}]
        return self._prepare.apply_chat_template(message, add_generation_prompt=True)


def first_word(text: str) -> str:
    """Extract the first word of an answer, such as `yes` from " Yes, it is.".

    Args:
        text: Answer of a network.

    Returns:
        The word in lower case without punctuation; empty if there is none.
    """
    words = text.split()
    return words[0].strip(".,!:;\"'").lower() if words else ""


def _prepare_inputs(
    processor: Any, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], texts: Sequence[str]
) -> Any:
    return processor(
        images=list(images),
        text=list(texts),
        padding=True,
        return_tensors="pt",
        input_data_format="channels_last",
    )
