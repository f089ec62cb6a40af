"""Prompts to generate images from, and text files of them."""

from dataclasses import dataclass
from pathlib import Path


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
    prompts = [line.strip() for line in read_text_file(path).split("\n") if line.strip()]
    if not prompts:
        raise ValueError(f"{path} contains no prompts: write one per line")
    return tuple(
        PromptRequest(name=f"{index:06d}", prompt=prompt) for index, prompt in enumerate(prompts)
    )


def read_text_file(path: Path) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Args:
        path: The file.

    Returns:
        Its text.

    Raises:
        ValueError: If the file is not UTF-8, naming the first line that is not.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path} line {line} is not UTF-8 ({error.reason}): convert the file"
        ) from None
