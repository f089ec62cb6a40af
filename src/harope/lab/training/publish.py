"""Runs as repositories of the Hugging Face Hub.

README.md                                  model card, written from the run
config.json  model.safetensors             EMA weights, see `DiT.from_pretrained`
harope.safetensors                         the encoding alone, see `harope.load_encoding`
pytorch_lora_weights.safetensors           instead of the model, for a training of LoRA
train.json  metrics.jsonl  samples.png     configuration, metrics and last samples of the training
"""

import shutil
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import nn

from harope._utils.atomic import atomic_folder, atomic_path, write_json_atomic, write_text_atomic
from harope._utils.hub import check_upload, upload_folder
from harope.integrations import install, save_encoding
from harope.integrations.api import ModelChangedWarning
from harope.integrations.base import get_install_state
from harope.lab.training.checkpoint import TRAIN_FILE
from harope.lab.training.logging import METRICS_FILE
from harope.lab.training.model_card import SAMPLES_FILE, model_card
from harope.lab.training.run_dir import read_config
from harope.lab.training.serialization import to_json
from harope.lab.training.task import RunConfig, grid_path
from harope.lab.training.tasks.class_conditional import TrainConfig
from harope.lab.training.tasks.classification import ClassifyConfig
from harope.lab.training.tasks.flux_lora.config import FluxLoraConfig
from harope.lab.training.tasks.flux_lora.task import ADAPTERS
from harope.models.checkpoint_files import CONFIG_FILE, checkpoint_step, list_checkpoints

CARD_FILE = "README.md"


def push_run(
    run: str | Path, hub_id: str, *, private: bool | None = None, token: str | None = None
) -> str:
    """Upload a run to the Hugging Face Hub: EMA weights, model card, configuration and metrics.

    Args:
        run: Run folder.
        hub_id: Repository, such as "user/model"; created if missing.
        private: Whether a new repository is private; None as the account is set up.
        token: Access token; None for the stored one.

    Returns:
        The URL of the commit.

    Raises:
        ImportError: If huggingface_hub is not installed.
        ValueError: If the folder is no run with a checkpoint, there is no access token, or the Hub
            cannot be reached or refuses the upload.
    """
    run = Path(run)
    _last_checkpoint(run)
    check_upload(hub_id, token)
    with TemporaryDirectory() as temporary:
        folder = write_hub_folder(run, Path(temporary) / "model", hub_id)
        message = "Upload model of harope"
        return upload_folder(folder, hub_id, private=private, token=token, commit_message=message)


def write_hub_folder(run: str | Path, folder: str | Path, hub_id: str) -> Path:
    """Write the files that `push_run` uploads.

    Args:
        run: Run folder.
        folder: Folder to write, which must be missing or empty.
        hub_id: Repository that the model card names.

    Returns:
        The folder.

    Raises:
        ValueError: If `run` is no run with a checkpoint, or `folder` is not empty.
    """
    run, folder = Path(run), Path(folder)
    config, checkpoint = read_config(run), _last_checkpoint(run)
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty: choose another folder")
    with atomic_folder(folder) as temporary:
        model = _write_model(run, checkpoint, config, temporary)
        write_json_atomic(temporary / TRAIN_FILE, to_json(config))
        if (run / METRICS_FILE).is_file():
            shutil.copyfile(run / METRICS_FILE, temporary / METRICS_FILE)
        grid = grid_path(run, checkpoint_step(checkpoint))
        if grid.is_file():
            shutil.copyfile(grid, temporary / SAMPLES_FILE)
        card = model_card(run, checkpoint, config, model, hub_id)
        write_text_atomic(temporary / CARD_FILE, card)
    return folder


def _last_checkpoint(run: Path) -> Path:
    checkpoints = list_checkpoints(run)
    if not checkpoints:
        raise ValueError(f"{run} is not a run with a checkpoint: pass a folder of `harope train`")
    return checkpoints[-1]


def _write_model(run: Path, checkpoint: Path, config: RunConfig, folder: Path) -> nn.Module | None:
    """Write the EMA weights and the encoding; return the model, or None for LoRA."""
    if isinstance(config, FluxLoraConfig):
        for file in (run / ADAPTERS).iterdir():
            shutil.copyfile(file, folder / file.name)
        return None
    if isinstance(config, TrainConfig):
        return _write_dit(checkpoint, folder)
    from safetensors.torch import save_file

    model = _read_other(checkpoint, config)
    shutil.copyfile(checkpoint / CONFIG_FILE, folder / CONFIG_FILE)
    state = {name: value.contiguous() for name, value in model.state_dict().items()}
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(state, temporary, metadata={"format": "pt"})
    # A model with its library's own embedding has no encoding of harope.
    if get_install_state(model) is not None:
        save_encoding(model, folder)
    return model


def _write_dit(checkpoint: Path, folder: Path) -> nn.Module:
    from harope.models.dit import DiT

    model = DiT.from_checkpoint(checkpoint)
    model.save_pretrained(folder)
    # Built with its encoding, the model does not know it as one that can be saved alone.
    carrier, state = DiT(model.config), model.state_dict()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelChangedWarning)
        install(carrier, model.config.encoding, **model.config.encoding_options)
    carrier.load_state_dict(state)
    save_encoding(carrier, folder)
    return model


def _read_other(checkpoint: Path, config: RunConfig) -> nn.Module:
    if isinstance(config, ClassifyConfig):
        from harope.models.vit import read_vit

        return read_vit(checkpoint)[0]
    from harope.models.mmdit import read_mmdit

    return read_mmdit(checkpoint)[0]
