"""DPG-Bench's prompts: `dpg_bench/prompts/*.txt` of github.com/TencentQQGYLab/ELLA."""

from pathlib import Path

from harope._utils.text_files import read_text
from harope.lab.sampling.prompts import PromptRequest


def read_dpg(folder: Path) -> tuple[PromptRequest, ...]:
    """Read a folder of `*.txt` files with one prompt each.

    Args:
        folder: DPG-Bench's folder `prompts`.

    Returns:
        Requests in the order of the file names, named by the files' stems.

    Raises:
        ValueError: Naming a file that is empty, or whose stem DPG-Bench's scorer would truncate.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: pass DPG-Bench's folder of prompts/*.txt")
    files = sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))
    if not files:
        raise ValueError(f"{folder} holds no *.txt: pass DPG-Bench's folder of prompts/*.txt")
    return tuple(_read_request(path) for path in files)


def _read_request(path: Path) -> PromptRequest:
    prompt = read_text(path).strip()
    if not prompt:
        raise ValueError(f"{path} line 1 holds no prompt")
    if "." in path.stem:
        raise ValueError(
            f"{path} has a dot in its stem {path.stem!r}: DPG-Bench's scorer takes a name up to "
            f"its first dot; rename the file"
        )
    return PromptRequest(name=path.stem, prompt=prompt)
