"""Prompts to sample from, and files with one prompt per line."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class PromptRequest:
    """A prompt, and what the folder of its pictures needs."""

    name: str
    """Folder or stem under which the scorer looks for the pictures."""
    prompt: str
    """What to draw."""
    metadata: str | None = None
    """GenEval: the prompt's line of JSON, as it stood in the file. Scenes: what is asked for."""


def read_prompts(path: Path) -> tuple[PromptRequest, ...]:
    """Requests of a text file with one prompt per line; empty lines are passed over.

    Raises ValueError naming the file when it holds no prompt.
    """
    prompts = [line.strip() for line in read_text_file(path).split("\n") if line.strip()]
    if not prompts:
        raise ValueError(f"{path} holds no prompt: write one per line")
    return tuple(
        PromptRequest(name=f"{index:06d}", prompt=prompt) for index, prompt in enumerate(prompts)
    )


def read_text_file(path: Path) -> str:
    """Text of a UTF-8 file. Raises ValueError naming the line that is not UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ValueError(f"{path} line {line} is not UTF-8: {error.reason}") from None
