"""The configuration of a DiT."""

import dataclasses
import json

import pytest
import torch

from harope.models.dit import DIT_SIZES, DiT, DiTConfig
from harope.models.dit.config import dit_config, standard_num_heads

SMALL = {"depth": 2, "width": 32, "num_heads": 2, "patch_size": 2}


def test_the_paper_has_four_sizes_by_three_patches():
    expected = {f"DiT-{size}/{patch}" for size in ("S", "B", "L", "XL") for patch in (2, 4, 8)}
    assert set(DIT_SIZES) == expected


@pytest.mark.parametrize(
    ("size", "depth", "width", "heads"),
    [("S", 12, 384, 6), ("B", 12, 768, 12), ("L", 24, 1024, 16), ("XL", 28, 1152, 16)],
)
@pytest.mark.parametrize("patch", [2, 4, 8])
def test_sizes_are_those_of_the_paper(size, depth, width, heads, patch):
    config = dit_config(f"DiT-{size}/{patch}")
    assert (config.depth, config.width, config.num_heads) == (depth, width, heads)
    assert config.patch_size == patch
    assert standard_num_heads(depth, width) == heads


def test_other_shapes_have_no_standard_heads():
    assert standard_num_heads(12, 512) is None


def test_fields_are_replaced_by_name():
    config = dit_config("DiT-S/8", num_classes=10, encoding="axial")
    assert config == dataclasses.replace(DIT_SIZES["DiT-S/8"], num_classes=10, encoding="axial")


def test_a_model_needs_a_number_of_classes():
    with pytest.raises(ValueError, match="num_classes is None: set it to the number of classes"):
        DiT(DiTConfig(**SMALL, num_classes=None))


@pytest.mark.parametrize(
    ("changes", "outputs", "null_class"),
    [
        ({}, 8, 1000),
        ({"learned_variance": False}, 4, 1000),
        ({"num_classes": 10, "in_channels": 3}, 6, 10),
        ({"label_dropout": 0.0}, 8, None),
        ({"num_classes": 0}, 8, None),
        ({"num_classes": None}, 8, None),
    ],
)
def test_outputs_and_null_class_follow_from_the_fields(changes, outputs, null_class):
    config = DiTConfig(**SMALL, **changes)
    assert (config.out_channels, config.null_class) == (outputs, null_class)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"encoding": "ape-learned", "encoding_options": {"grid_sizes": (4, 6)}},
        {"encoding": "axial", "encoding_options": {"axes_dim": (12, 4), "theta": 100.0}},
        {"input_size": (16, 24)},
    ],
)
def test_a_configuration_survives_json(changes):
    config = DiTConfig(**SMALL, **changes)
    assert DiTConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


@pytest.mark.parametrize("encoding", ["mixed", "harope"])
def test_creating_a_configuration_keeps_the_random_state(encoding):
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    DiTConfig(**SMALL, encoding=encoding)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": 0}, r"depth 0 must be at least 1"),
        ({"patch_size": -1}, r"patch_size -1 must be at least 1"),
        (
            {"num_heads": 3},
            r"width 32 is not a multiple of num_heads 3: choose a width that the heads divide",
        ),
        ({"num_classes": -1}, r"num_classes -1 must be 0 or more"),
        ({"label_dropout": 1.0}, r"label_dropout 1.0 must lie in \[0, 1\)"),
        ({"encoding": "harop"}, r"encoding 'harop' is unknown: did you mean 'harope'\?"),
        ({"encoding_options": {"thet": 1.0}}, r"'thet' is unknown: did you mean 'theta'\?"),
        ({"num_heads": 16}, r"head_dim 2 cannot be shared equally by 2 axes"),
    ],
)
def test_invalid_configurations_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        DiTConfig(**{**SMALL, **changes})


def test_unknown_sizes_and_fields_name_the_nearest():
    with pytest.raises(ValueError, match=r"'DiT-B2' is unknown: did you mean 'DiT-B/2'\?"):
        dit_config("DiT-B2")
    with pytest.raises(ValueError, match=r"'num_clases' is unknown: did you mean 'num_classes'\?"):
        dit_config("DiT-B/2", num_clases=10)


def test_values_of_another_configuration_are_refused():
    with pytest.raises(ValueError, match=r"unknown fields \['hidden'\], missing \['width'\]"):
        DiTConfig.from_dict({"depth": 1, "num_heads": 1, "patch_size": 2, "hidden": 3})


# --- a learned embedding knows the grid of the model


def test_a_learned_embedding_spans_the_input():
    model = DiT(DiTConfig(**SMALL), encoding="ape-learned", input_size=(16, 24))
    assert model.pos_embed.embedding.grid_sizes == (8, 12)


def test_a_learned_embedding_without_a_size_says_what_it_needs():
    config = DiTConfig(**SMALL, encoding="ape-learned")
    with pytest.raises(ValueError, match=r"input_size is None: pass input_size=\(height, width\)"):
        DiT(config)


# --- files


@pytest.mark.parametrize(
    ("encoding", "options", "stored"),
    [
        ("harope", {}, {"pairing": "inverse"}),
        ("harope", {"pairing": "same"}, {"pairing": "same"}),
        ("harope-v1", {}, {"pairing": "same"}),
        ("axial", {"basis": "free"}, {"basis": "free", "pairing": "inverse"}),
        ("axial", {}, {}),
        ("rethinking", {}, {}),
    ],
)
def test_files_state_the_pairing(encoding, options, stored):
    config = DiTConfig(**SMALL, encoding=encoding, encoding_options=options)
    assert config.to_dict()["encoding_options"] == stored
    assert DiTConfig.from_dict(config.to_dict()).encoding_parts == config.encoding_parts


@pytest.mark.parametrize(
    ("encoding", "options", "pairing"),
    [
        ("harope", {}, "same"),
        ("harope", {"per_head": False}, "same"),
        ("harope", {"pairing": "inverse"}, "inverse"),
        ("axial", {"basis": "svd"}, "same"),
    ],
)
def test_files_without_a_pairing_mean_the_default_of_their_time(encoding, options, pairing):
    values = {**SMALL, "encoding": encoding, "encoding_options": options}
    assert DiTConfig.from_dict(values).encoding_parts.pairing == pairing


def test_options_without_effect_in_old_files_are_dropped():
    values = {**SMALL, "encoding": "axial", "encoding_options": {"pairing": "same", "theta": 9.0}}
    assert DiTConfig.from_dict(values).encoding_options == {"theta": 9.0}
