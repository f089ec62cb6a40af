"""Prompts to generate images from, and text files of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from harope._utils.text_files import read_text


@dataclass(frozen=True, kw_only=True)
class PromptRequest:
    """Prompt, with the data that the folder of its images needs.

    Raises:
        ValueError: If the name is not the name of a file.
    """

    name: str
    """Folder name or file stem under which the scorer looks for the images."""
    prompt: str
    """Text of the prompt."""
    metadata: str | None = None
    """JSON that describes what a correct image shows, for GenEval and scenes: the unchanged line of
    GenEval's prompt file, or the content of the scene."""

    def __post_init__(self) -> None:
        if self.name in ("", ".", "..") or not set(self.name).isdisjoint("/\\\0"):
            raise ValueError(f"name {self.name!r} must be the name of a file, not a path")


def read_prompts(path: Path) -> tuple[PromptRequest, ...]:
    """Read a text file with one prompt per line, skipping empty lines.

    Args:
        path: UTF-8 text file.

    Returns:
        One request per prompt, named by its index as six digits.

    Raises:
        ValueError: If the file contains no prompts or is not UTF-8.
    """
    return prompt_requests(read_text(path).split("\n"), path)


def prompt_requests(texts: Iterable[str], source: object) -> tuple[PromptRequest, ...]:
    """Return requests for prompts, skipping empty ones.

    Args:
        texts: The prompts.
        source: Where they come from, for the error message.

    Returns:
        One request per prompt, named by its index as six digits.

    Raises:
        ValueError: If there are no prompts.
    """
    prompts = [text.strip() for text in texts if text.strip()]
    if not prompts:
        raise ValueError(f"{source} contains no prompts: write one per line")
    return tuple(
        PromptRequest(name=f"{index:06d}", prompt=prompt) for index, prompt in enumerate(prompts)
    )
