"""Model cards: what a run trained, on which data, how well, and how to load the result."""

import json
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import torch
from torch import nn

from harope._utils.json_files import read_json
from harope.lab.metrics.intervals import Proportion
from harope.lab.reporting.tables import format_proportion, markdown_table
from harope.lab.training.checkpoint import STATE_FILE, CheckpointState
from harope.lab.training.logging import read_metrics, singular_value_range
from harope.lab.training.serialization import to_dict
from harope.lab.training.task import RunConfig, grid_path
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.text_to_image import TextToImageConfig
from harope.lab.training.validation import HELD_OUT_LOSS, TRAINING_DATA_LOSS
from harope.rope.config import has_effect
from harope.rope.presets import PRESETS, encoding_config, encoding_parameters

SAMPLES_FILE = "samples.png"
METHOD_URL = "https://arxiv.org/abs/2510.10489"

_METRICS = {
    HELD_OUT_LOSS: "loss on held-out images at fixed times and noise",
    TRAINING_DATA_LOSS: "loss on fixed training images at fixed times and noise",
    "loss": "training loss, mean over the last logged steps",
    "top1": "top-1 accuracy on held-out images",
    "top5": "top-5 accuracy on held-out images",
}
_PAIRINGS = {
    "inverse": "the matrix of the keys is the inverse transpose of the matrix of the queries, so "
    "that the score at zero offset is q . k",
    "same": "queries and keys are multiplied by the same matrix (arXiv 2510.10489v1, equation 7)",
}
_CITATION = """\
@inproceedings{li2026harope,
  title     = {Head-wise Adaptive Rotary Positional Encoding for Fine-Grained Image Generation},
  author    = {Li, Jiaye and Chen, Baoyou and Li, Hui and Dong, Zilong and Wang, Jingdong and
               Zhu, Siyu},
  booktitle = {Proceedings of the IEEE/CVF Conference on Computer Vision and Pattern Recognition
               (CVPR)},
  year      = {2026},
  url       = {https://arxiv.org/abs/2510.10489}
}"""


class _Kind(NamedTuple):
    """What a card says about all models of a task."""

    words: str
    pipeline_tag: str
    usage: str


_KINDS: dict[type[RunConfig], _Kind] = {
    TrainConfig: _Kind(
        "class-conditional diffusion transformer (DiT)",
        "unconditional-image-generation",
        """\
import harope

model = harope.DiT.from_pretrained("{hub_id}")
```

Images are sampled by the command line, with the sampler of the training:

```bash
hf download {hub_id} --local-dir model
harope sample model --count 64 --out samples""",
    ),
    ClassifyConfig: _Kind(
        "vision transformer (ViT) for classification",
        "image-classification",
        """\
from pathlib import Path

from huggingface_hub import snapshot_download

from harope.models.vit import read_vit

model, config = read_vit(Path(snapshot_download("{hub_id}")), weights="model")""",
    ),
    TextToImageConfig: _Kind(
        "text-to-image transformer (MMDiT)",
        "text-to-image",
        """\
from pathlib import Path

from huggingface_hub import snapshot_download

from harope.models.mmdit import read_mmdit

model, description = read_mmdit(Path(snapshot_download("{hub_id}")), weights="model")""",
    ),
    FluxLoraConfig: _Kind(
        "LoRA with a positional encoding for {pretrained}",
        "text-to-image",
        """\
from diffusers import DiffusionPipeline
from huggingface_hub import snapshot_download

import harope

pipeline = DiffusionPipeline.from_pretrained("{pretrained}")
harope.load_adapters(pipeline, snapshot_download("{hub_id}"))""",
    ),
}


def model_card(
    run: Path, checkpoint: Path, config: RunConfig, model: nn.Module | None, hub_id: str
) -> str:
    """Write the model card of a run.

    Args:
        run: Run folder.
        checkpoint: Its checkpoint that the card describes.
        config: Configuration of the run.
        model: The model with its EMA weights; None for LoRA.
        hub_id: Repository that the code of the card loads from.

    Returns:
        Markdown with the metadata of the Hugging Face Hub in front.
    """
    settings, state = to_dict(config), read_json(checkpoint / STATE_FILE, CheckpointState)
    metrics: dict[str, Any] = {}
    for line in read_metrics(run):
        if line["step"] <= state.step:
            metrics |= line
    names = {"hub_id": hub_id, "pretrained": _public_name(settings["model"].get("pretrained"))}
    kind = _KINDS[type(config)]
    sections = [
        _metadata(config, settings, kind),
        f"# {hub_id.rpartition('/')[2]}",
        _summary(config, kind.words.format(**names), state, model),
    ]
    if grid_path(run, state.step).is_file():
        sampler = settings.get("sampling", {})
        how = ", ".join(f"{name} {value}" for name, value in sampler.items() if value is not None)
        sections.append(
            f"![Samples]({SAMPLES_FILE})\n\nSamples of the EMA weights after {state.step:,} steps"
            f"{f' ({how})' if how else ''}, with the same seeds as all sample grids of the "
            f"training; not selected."
        )
    usage = kind.usage.format(**names)
    sections += [
        f"## Use\n\n```bash\npip install harope\n```\n\n```python\n{usage}\n```",
        f"## Positional encoding\n\n{_encoding(settings['model'], model)}",
        f"## Data\n\n{_data(settings['data'], state)}",
        f"## Results\n\n{_results(metrics)}",
        f"## Training\n\n{_training(config, settings, state)}",
        f"## Citation\n\n```bibtex\n{_CITATION}\n```",
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(config: RunConfig, settings: Mapping[str, Any], kind: _Kind) -> str:
    from huggingface_hub import ModelCardData

    data = settings["data"]
    dataset = _hub_id(data["root"]) if data["kind"] == "hub" else None
    # The license is left to the author: it depends on the data and on the base model.
    card = ModelCardData(
        library_name="harope",
        pipeline_tag=kind.pipeline_tag,
        tags=["harope", "positional-encoding", settings["model"]["encoding"], config.recipe],
        base_model=_hub_id(settings["model"].get("pretrained")),
        datasets=[dataset] if dataset is not None and "/" in dataset else None,
    )
    return f"---\n{card.to_yaml()}\n---"


def _hub_id(path_or_id: str | None) -> str | None:
    """Return an id of the Hub as it is; None for a folder, which may no longer exist."""
    if path_or_id is None or Path(path_or_id).exists() or Path(path_or_id).is_absolute():
        return None
    return path_or_id


def _public_name(path_or_id: str | None) -> str | None:
    """Return a hub id as it is, and of a folder its name: the rest of its path is private."""
    return path_or_id and (_hub_id(path_or_id) or PurePath(path_or_id).name)


def _summary(config: RunConfig, words: str, state: CheckpointState, model: nn.Module | None) -> str:
    size = ""
    if model is not None:
        count = sum(parameter.numel() for parameter in model.parameters())
        size = f" of {count:,} parameters"
    encoding = config.model.encoding  # type: ignore[attr-defined]  # a field of every subclass
    return (
        f"A {words}{size} with the positional encoding `{encoding}`, trained by "
        f"[harope](https://pypi.org/project/harope)'s recipe `{config.recipe}` for {state.step:,} "
        f"steps of {config.batch_size:,} images. The weights are the exponential moving average of "
        f"those in training."
    )


def _encoding(described: Mapping[str, Any], model: nn.Module | None) -> str:
    name, options = described["encoding"], described["encoding_options"]
    preset, parts = PRESETS[name], encoding_config(name, **options)
    lines = [f"`{name}`: {preset.equation} ({preset.source})."]
    if options:
        lines.append(f"Options that differ from the preset: `{json.dumps(options)}`.")
    if has_effect(parts, "pairing"):
        lines.append(f"Pairing `{parts.pairing}`: {_PAIRINGS[parts.pairing]}.")
    if model is not None and (count := sum(p.numel() for p in encoding_parameters(model))):
        lines.append(f"It has {count:,} parameters.")
    if model is not None and (values := singular_value_range(model)):
        low, high = values.values()
        lines.append(f"The singular values of A lie between {low:.4f} and {high:.4f}.")
    return "\n".join(lines)


def _data(data: Mapping[str, Any], state: CheckpointState) -> str:
    # Only the last part of a path: the others say nothing to readers.
    paths = {"root", "annotations", "features", "labels"}
    fields = {name: v for name, v in data.items() if name != "kind" and v is not None}
    for name in paths & fields.keys():
        is_id = name == "root" and data["kind"] == "hub"
        fields[name] = _public_name(fields[name]) if is_id else PurePath(fields[name]).name
    items = (state.data or {}).get("items")
    count = "endless, rendered on the fly" if items is None else f"{items:,} images"
    settings = ", ".join(f"{name} {value}" for name, value in fields.items())
    return (
        f"`{data['kind']}`{f' ({settings})' if settings else ''}: {count}. The training has seen "
        f"{state.images:,} images, repeated ones included.\n\nThe author of this repository has "
        f"not stated a license for the data or the weights here yet."
    )


def _results(metrics: Mapping[str, Any]) -> str:
    rows = [("metric", "value")]
    for name, title in _METRICS.items():
        if name in metrics:
            value = f"{metrics[name]:.4f}"
            if f"{name}_right" in metrics:
                score = Proportion(metrics[f"{name}_right"], metrics["held_out_images"])
                value = format_proportion(score)
            rows.append((f"{title} (`{name}`)", value))
    if len(rows) == 1:
        return "The run has no metrics."
    intervals = " Brackets are Wilson's 95 % intervals." if "top1" in metrics else ""
    note = f"One run of one seed.{intervals} All steps are in `metrics.jsonl`."
    return f"{markdown_table(rows)}\n\n{note}"


def _training(config: RunConfig, settings: Mapping[str, Any], state: CheckpointState) -> str:
    from harope import __version__

    values: dict[str, Any] = {
        "steps": f"{state.step:,}",
        "batch size": f"{config.batch_size:,}",
        "EMA decay": config.ema_decay,
        "precision": {"no": "float32"}.get(config.precision, config.precision),
        "seed": config.seed,
        "duration": f"{state.seconds / 60:,.1f} minutes",
    }
    for part in ("optimizer", "diffusion"):
        for name, value in settings.get(part, {}).items():
            values[f"{part}: {name.replace('_', ' ')}"] = value
    rows = [("setting", "value"), *((name, f"{value}") for name, value in values.items())]
    versions = f"harope {__version__}, torch {torch.__version__}"
    return f"{markdown_table(rows)}\n\n{versions}. The full configuration is in `train.json`."
