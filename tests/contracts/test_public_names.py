"""Names that others rely on."""

import importlib
import inspect
import re
from pathlib import Path

import pytest

import harope
from harope.models.dit import DiT, DiTConfig

PUBLIC = [
    "DiT",
    "DiTConfig",
    "EncodingConfig",
    "cached",
    "create_encoding",
    "encoding_parameters",
    "fold",
    "fold_projection",
    "get_encodings",
    "grid_positions",
    "install",
    "list_encodings",
    "load_encoding",
    "normalize_positions",
    "parameter_groups",
    "remove",
    "save_encoding",
    "set_scaling",
    "text_image_positions",
    "text_images_positions",
    "use_positions",
    "video_positions",
]
SIGNATURES = {
    "cached": ["module"],
    "create_encoding": ["encoding", "num_heads", "head_dim", "num_axes", "options"],
    "encoding_parameters": ["module"],
    "fold_projection": ["weight", "bias", "matrices", "num_heads"],
    "fold": ["model"],
    "get_encodings": ["model"],
    "grid_positions": ["sizes", "device"],
    "install": ["model", "name", "keep_absolute", "integration", "options"],
    "list_encodings": [],
    "load_encoding": ["model", "path_or_hub_id", "revision"],
    "parameter_groups": ["module", "weight_decay"],
    "remove": ["model"],
    "save_encoding": ["model", "path"],
    "normalize_positions": ["positions", "sizes", "low", "high", "by"],
    "set_scaling": [
        *("module", "method", "sizes", "train_sizes", "attention_factor", "repeat_length"),
    ],
    "text_image_positions": ["num_text", "height", "width", "device"],
    "text_images_positions": ["parts", "device"],
    "use_positions": ["model", "positions"],
    "video_positions": ["frames", "height", "width", "num_text", "frame_stride", "device"],
}


def test_the_top_offers_the_documented_names():
    assert sorted(harope.__all__) == PUBLIC


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_resolves_and_is_documented(name):
    assert inspect.getdoc(getattr(harope, name))


@pytest.mark.parametrize("name", SIGNATURES)
def test_arguments_keep_their_names_and_order(name):
    assert list(inspect.signature(getattr(harope, name)).parameters) == SIGNATURES[name]


def test_the_models_at_the_top_are_those_of_their_package():
    assert (harope.DiT, harope.DiTConfig) == (DiT, DiTConfig)


def test_other_names_are_missing():
    with pytest.raises(AttributeError, match=r"module 'harope' has no attribute 'Dit'"):
        _ = harope.Dit


@pytest.mark.parametrize("package", ["rope", "diffusion", "integrations", "models.dit"])
def test_packages_offer_what_they_list(package):
    module = importlib.import_module(f"harope.{package}")
    assert module.__all__ == sorted(module.__all__, key=lambda name: (not name.isupper(), name))
    for name in module.__all__:
        value = getattr(module, name)
        assert inspect.getdoc(value) or not (inspect.isclass(value) or inspect.isroutine(value))


def test_the_api_pages_have_the_public_names():
    pages = (Path(__file__).parents[2] / "docs" / "api").glob("*.md")
    listed = [
        name
        for page in pages
        for name in re.findall(r"^::: harope\.(?:[\w.]+\.)?(\w+)$", page.read_text("utf-8"), re.M)
    ]
    assert sorted(listed) == PUBLIC
