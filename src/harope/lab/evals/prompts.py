"""Prompt files of the public text-to-image benchmarks, as requests for samples.

GenEval: github.com/djghosh13/geneval, `prompts/evaluation_metadata.jsonl`. DPG-Bench:
github.com/TencentQQGYLab/ELLA, `dpg_bench/prompts/*.txt`.
"""

from pathlib import Path

from harope.lab.evals.geneval.prompts import parse_metadata
from harope.lab.sampling.prompts import PromptRequest, read_text_file


def read_geneval(path: Path) -> tuple[PromptRequest, ...]:
    """Requests of an `evaluation_metadata.jsonl`, line by line; line N is named as N, five digits.

    Raises ValueError naming file and line when the scorer could not read a line.
    """
    requests = []
    for number, line in enumerate(read_text_file(path).rstrip().split("\n"), start=1):
        metadata = parse_metadata(line, f"{path} line {number}")
        request = PromptRequest(
            name=f"{number - 1:05d}", prompt=metadata["prompt"], metadata=line.strip()
        )
        requests.append(request)
    return tuple(requests)


def read_dpg(folder: Path) -> tuple[PromptRequest, ...]:
    """Requests of a folder of `*.txt`, in the order of their names; a picture takes its stem.

    Raises ValueError naming the file that is empty, or whose stem the scorer would cut.
    """
    if not folder.is_dir():
        raise ValueError(f"{folder} is not a folder: pass DPG-Bench's folder of prompts/*.txt")
    files = sorted(path for path in folder.glob("*.txt") if not path.name.startswith("."))
    if not files:
        raise ValueError(f"{folder} holds no *.txt: pass DPG-Bench's folder of prompts/*.txt")
    return tuple(_dpg_request(path) for path in files)


def _dpg_request(path: Path) -> PromptRequest:
    prompt = read_text_file(path).strip()
    if not prompt:
        raise ValueError(f"{path} line 1 holds no prompt")
    if "." in path.stem:
        raise ValueError(
            f"{path} has a dot in its stem {path.stem!r}: DPG-Bench's scorer takes a name up to "
            f"its first dot; rename the file"
        )
    return PromptRequest(name=path.stem, prompt=prompt)
