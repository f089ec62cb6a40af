"""Answers to questions about pictures, by models of transformers in local folders."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import UInt8

from harope.lab.evals.local_models import ModelInfo, load_component, load_model, model_type, used

OPTION = "--vqa"
OFFICIAL = "mPLUG large of modelscope"
CHAT_MODELS = {"llava": "LLaVA", "qwen2_vl": "Qwen2-VL", "qwen2_5_vl": "Qwen2.5-VL"}
CHAT_PROMPT = "Answer with one word, yes or no."


@runtime_checkable
class VQA(Protocol):
    """A network that answers questions about pictures."""

    used: ModelInfo

    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], questions: Sequence[str]
    ) -> list[str]:
        """An answer for each pair of RGB image and question; "yes" is said so."""
        ...


def load_vqa(folder: Path, device: torch.device | str = "cpu") -> VQA:
    """BLIP's question answering, or a model that chats.

    Raises ValueError for a model of another type.
    """
    supported = {"blip": "BLIP, as blip-vqa-base", **CHAT_MODELS}
    if model_type(folder, supported, OPTION) == "blip":
        return BLIP(folder, device)
    return Chat(folder, device)


class BLIP:
    """BLIP for visual question answering (Li et al. 2022, arXiv 2201.12086)."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        from transformers import AutoProcessor, BlipForQuestionAnswering

        self._device = device
        self._prepare = load_component(AutoProcessor, folder, OPTION)
        self._model = load_model(BlipForQuestionAnswering, folder, OPTION).to(device)
        self.used = used(self._model, folder, OFFICIAL)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], questions: Sequence[str]
    ) -> list[str]:
        """What it generates, in lower case as its words are."""
        inputs = self._prepare(
            images=list(images),
            text=list(questions),
            padding=True,
            return_tensors="pt",
            input_data_format="channels_last",
        ).to(self._device, self._model.dtype)
        generated = self._model.generate(**inputs, max_new_tokens=10)
        texts = self._prepare.batch_decode(generated, skip_special_tokens=True)
        return [first_word(text) for text in texts]


class Chat:
    """A model that chats about pictures, told to say yes or no."""

    def __init__(self, folder: Path, device: torch.device | str = "cpu"):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self._device = device
        self._prepare = load_component(AutoProcessor, folder, OPTION)
        if not self._prepare.chat_template:
            raise ValueError(f"{OPTION} {folder} has no chat template: download it again")
        # New tokens come after the prompts only where all end together.
        self._prepare.tokenizer.padding_side = "left"
        self._model = load_model(AutoModelForImageTextToText, folder, OPTION).to(device)
        self.used = used(self._model, folder, OFFICIAL, CHAT_PROMPT)

    @torch.no_grad()
    def __call__(
        self, images: Sequence[UInt8[np.ndarray, "_ _ 3"]], questions: Sequence[str]
    ) -> list[str]:
        """The first word that it generates, in lower case."""
        texts = [self._prompt(question) for question in questions]
        inputs = self._prepare(
            images=list(images),
            text=texts,
            padding=True,
            return_tensors="pt",
            input_data_format="channels_last",
        ).to(self._device, self._model.dtype)
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
    """`yes` of " Yes, it is."; empty where there is no word."""
    words = text.split()
    return words[0].strip(".,!:;\"'").lower() if words else ""
