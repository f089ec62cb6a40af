"""Starting a training from the weights of another model: `--init FROM`.

Only weights are taken, the EMA weights of a run; the optimizer and the count of steps start anew. A
family of models says which fields of its configuration must agree with the source, and which layers
may differ in their shapes and then keep their initial values. The parameters of an encoding are
taken if the source has the same encoding.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from torch import nn

from harope._utils.digests import file_digest
from harope._utils.hub import download_files, find_files
from harope._utils.rng import isolated_torch_rng
from harope._utils.suggestions import suggest
from harope.lab.training.task import RunConfig
from harope.models.checkpoint_files import CONFIG_FILE, list_checkpoints, newest_checkpoint
from harope.models.dit.config import DiTConfig
from harope.models.dit.serialization import WEIGHTS_FILE, from_checkpoint
from harope.models.mmdit import MMDiTConfig, read_mmdit
from harope.models.vit import ViTConfig, read_vit
from harope.rope import EncodingConfig, PositionalEncoding, encoding_config

EMA_FILE = "ema.safetensors"
C = TypeVar("C", bound=RunConfig)


@dataclass(frozen=True)
class InitialModel:
    """A model whose weights a training starts from."""

    model: nn.Module
    """The model with its weights, on the CPU."""
    sizes: Mapping[str, Any]
    """Fields of the model's configuration that the training must have, with their values."""
    encoding: str
    """Name of its encoding."""
    encoding_parts: EncodingConfig
    """Preset of its encoding with its options."""
    origin: str
    """Name and digest of the weights, which name a checkpoint if `init` is a run."""


class _Source(NamedTuple):
    """A model as it was read."""

    model: nn.Module
    sizes: dict[str, Any]
    encoding: str
    encoding_options: dict[str, Any]


@dataclass(frozen=True)
class _Family:
    """What starting from the weights of a family of models depends on."""

    read: Callable[[Path], _Source]
    """Reads a model from a folder or a file."""
    layers: Mapping[str, str]
    """Layers that may differ in their shapes, with the fields that decide about these."""


def read_initial_model(config: RunConfig) -> InitialModel:
    """Read the model that a training starts from, and check its sizes.

    Args:
        config: Configuration of the training, whose `init` is not None.

    Returns:
        The model, on the CPU.

    Raises:
        ValueError: If `init` names no model of the same family, a damaged one, or one of other
            sizes; the message names the first field that differs.
    """
    initial = _read(config)
    for name, stored in initial.sizes.items():
        given = getattr(_model_config(config), name)
        if given != stored:
            raise ValueError(
                f"model.{name} is {given}, but that of init {config.init} is {stored}: leave "
                f"model.{name} out, or set it to {stored}"
            )
    return initial


def with_initial_sizes(config: C) -> C:
    """Replace the sizes of a model by those of the model that a training starts from.

    Args:
        config: Configuration of the training.

    Returns:
        The configuration with the fields in `InitialModel.sizes`; unchanged if `init` is None.

    Raises:
        ValueError: If `init` names no model of the same family, or a damaged one.
    """
    if config.init is None:
        return config
    changes: dict[str, Any] = {"model": replace(_model_config(config), **_read(config).sizes)}
    return replace(config, **changes)


def load_initial_weights(model: nn.Module, config: RunConfig, initial: InitialModel) -> list[str]:
    """Load the weights of another model where the two agree.

    Args:
        model: Model of the training, with its initial weights; changed in place.
        config: Configuration of the training.
        initial: The other model.

    Returns:
        What was not taken over, as lines for the user.

    Raises:
        ValueError: If a weight is missing or unknown, or its shape differs for a reason that is not
            known; the message has their names.
    """
    source = initial.model.state_dict()
    expected, given = _shapes(model), _shapes(initial.model)
    notices, skipped = [], set()
    for layer, fields in _family(config).layers.items():
        names = {name for name in {*expected, *given} if f"{name}.".startswith(f"{layer}.")}
        if any(expected.get(name) != given.get(name) for name in names):
            notices.append(f"{layer} is not taken over, because {fields} differs")
            skipped |= names
    names = _encoding_names(model) | _encoding_names(initial.model)
    settings = _model_config(config)
    parts = encoding_config(settings.encoding, **settings.encoding_options)
    if parts != initial.encoding_parts or any(expected.get(n) != given.get(n) for n in names):
        old, new = initial.encoding, settings.encoding
        change = f"is {new} instead of {old}" if new != old else "has other options or sizes"
        notices.append(f"the encoding {change} and starts with its initial values")
        skipped |= names
    _check_names(expected, given, skipped, str(config.init))
    model.load_state_dict({name: source[name] for name in given.keys() - skipped}, strict=False)
    return notices


def find_origin(init: str, stored: str) -> str | None:
    """Find the weights that a training started from, without downloading any.

    Args:
        init: Field of the configuration.
        stored: `InitialModel.origin` when the training started.

    Returns:
        Name and digest as they are today; None if there are no weights of that name any more, for
        instance because the run that they are from was trained further and removed its checkpoint.
    """
    path = _find(init) or find_files(init)
    for place in () if path is None else list_checkpoints(path) or [path]:
        if stored.startswith(f"{_name(init, place)}, ") and _weights_file(place).is_file():
            return _describe(init, place)
    return None


def released_models() -> list[str]:
    """List the models that come with harope.

    Returns:
        Their names, which `init` takes.
    """
    return sorted(path.name for path in released_path("").iterdir() if path.is_dir())


def released_path(name: str) -> Path:
    """Return the folder of a model that comes with harope.

    Args:
        name: One of `released_models`.

    Returns:
        The folder in the installed package.
    """
    return Path(str(files("harope.lab") / "checkpoints" / name))


def _read(config: RunConfig) -> InitialModel:
    assert config.init is not None
    family, path = _family(config), _find(config.init) or _download(config.init)
    # A model is built to be read; the training's own random numbers must not depend on it.
    with isolated_torch_rng():
        try:
            model, sizes, encoding, options = family.read(path)
        except ValueError as error:
            raise ValueError(f"init: {error}") from None
    parts = encoding_config(encoding, **options)
    origin = _describe(config.init, newest_checkpoint(path))
    return InitialModel(model, sizes, encoding, parts, origin)


def _find(init: str) -> Path | None:
    """Return the path of a model that exists here: a folder, a file, or a released model."""
    if Path(init).exists():
        return Path(init)
    if init in released_models():
        return released_path(init)
    return None


def _download(init: str) -> Path:
    """Return the folder of a downloaded model."""
    path = Path(init)
    is_id = len(path.parts) == 2 and path.suffix != ".pt" and not path.parent.exists()
    if not is_id or path.is_absolute():
        raise ValueError(
            f"init {init!r} does not exist: give a run, a checkpoint, a .pt file, a hub id or a "
            f"released model ({suggest(init, released_models())})"
        )
    return download_files(init, [CONFIG_FILE, WEIGHTS_FILE])


def _weights_file(place: Path) -> Path:
    if place.is_file():
        return place
    return place / (EMA_FILE if (place / EMA_FILE).is_file() else WEIGHTS_FILE)


def _name(init: str, place: Path) -> str:
    return init if place.name == Path(init).name else f"{init} {place.name}"


def _describe(init: str, place: Path) -> str:
    digest = file_digest(_weights_file(place), length=16)
    return f"{_name(init, place)}, weights {digest}"


def _shapes(model: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


def _encoding_names(model: nn.Module) -> set[str]:
    """Return the names of the weights that belong to encodings."""
    parts = [name for name, part in model.named_modules() if isinstance(part, PositionalEncoding)]
    prefixes = tuple(f"{part}." for part in parts)
    return {name for name in model.state_dict() if prefixes and name.startswith(prefixes)}


def _check_names(
    expected: Mapping[str, Any], given: Mapping[str, Any], skipped: set[str], init: str
) -> None:
    """Raise ValueError unless all weights but the skipped ones have the same names and shapes."""
    common = (given.keys() & expected.keys()) - skipped
    problems = {
        "has no": sorted(expected.keys() - given.keys() - skipped),
        "has the unknown": sorted(given.keys() - expected.keys() - skipped),
        "has another shape of": sorted(n for n in common if given[n] != expected[n]),
    }
    texts = [
        f"{problem} {', '.join(names[:3])}{' and others' if len(names) > 3 else ''}"
        for problem, names in problems.items()
        if names
    ]
    if texts:
        raise ValueError(
            f"init {init} does not fit the model, because it {' and '.join(texts)}: choose a model "
            f"of the same structure"
        )


def _model_config(config: Any) -> Any:
    return config.model


def _family(config: RunConfig) -> _Family:
    family = _FAMILIES.get(type(_model_config(config)))
    if family is None or getattr(_model_config(config), "pretrained", None) is not None:
        raise ValueError(
            f"init is {config.init!r}, but {config.recipe} starts from model.pretrained: leave "
            f"init out, or set model.pretrained"
        )
    return family


def _read_dit(path: Path) -> _Source:
    model = from_checkpoint(path)
    config, names = model.config, ("depth", "width", "num_heads", "patch_size", "mlp_ratio")
    sizes = {name: getattr(config, name) for name in (*names, "qk_norm")}
    return _Source(model, sizes, config.encoding, config.encoding_options)


def _read_vit(path: Path) -> _Source:
    model, config = read_vit(path, weights=_weights_file(newest_checkpoint(path)).stem)
    names = ("name", "depth", "width", "num_heads", "patch_size", "mlp_ratio")
    sizes = {name: getattr(config, name) for name in names}
    return _Source(model, sizes, config.encoding, config.encoding_options)


def _read_mmdit(path: Path) -> _Source:
    model, description = read_mmdit(path, weights=_weights_file(newest_checkpoint(path)).stem)
    transformer = description["transformer"]
    sizes = {
        "depth": transformer["num_layers"],
        "num_heads": transformer["num_attention_heads"],
        "head_dim": transformer["attention_head_dim"],
        "patch_size": transformer["patch_size"],
        "qk_norm": transformer.get("qk_norm"),
        "dual_attention_layers": tuple(transformer.get("dual_attention_layers", ())),
    }
    return _Source(model, sizes, description["encoding"], description["encoding_options"])


_FAMILIES: dict[type, _Family] = {
    DiTConfig: _Family(
        _read_dit,
        {
            "x_embedder": "model.in_channels",
            "y_embedder": "model.num_classes or model.label_dropout",
            "final_layer.linear": "model.in_channels or model.learned_variance",
        },
    ),
    ViTConfig: _Family(
        _read_vit,
        {
            "patch_embed": "model.in_channels",
            "head": "model.num_classes",
            "pos_embed": "the encoding or the size of the images",
        },
    ),
    MMDiTConfig: _Family(
        _read_mmdit,
        {
            "pos_embed.proj": "model.in_channels",
            "proj_out": "model.in_channels",
            "context_embedder": "model.text_channels",
            "time_text_embed.text_embedder": "model.pooled_channels",
        },
    ),
}
