"""Encodings by name, and which of their parameters an optimizer may decay."""

import pytest
import torch
from torch import nn

from harope.rope import (
    EncodingConfig,
    create_encoding,
    encoding_config,
    encoding_parameters,
    grid_positions,
    list_encodings,
    parameter_groups,
)
from harope.rope.basis import Basis
from harope.rope.frequencies import Frequencies
from support.encoding import make

SIZES = {"num_heads": 3, "head_dim": 8}


def count(name: str, **options) -> int:
    encoding = create_encoding(name, **{**SIZES, **options})
    return sum(parameter.numel() for parameter in encoding.parameters())


def test_names_are_those_of_the_field():
    assert list_encodings() == [
        "none",
        "ape",
        "ape-learned",
        "rope",
        "axial",
        "axial-learned",
        "mixed",
        "mixed-orthogonal",
        "partial",
        "dinov3",
        "golden",
        "spiral",
        "simplex",
        "comrope-ap",
        "comrope-ld",
        "liere",
        "mrope",
        "mrope-interleaved",
        "mm-rope",
        "mhrope",
        "video",
        "rethinking",
        "string",
        "string-circulant",
        "harope",
        "harope-v1",
    ]


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("none", 0),
        ("ape", 0),
        ("rope", 0),
        ("axial", 0),
        ("video", 0),
        ("mixed", 3 * 8),
        ("mixed-orthogonal", 3 * (8 + 28)),
        ("dinov3", 0),
        ("golden", 0),
        ("simplex", 0),
        ("comrope-ap", 3 * (4 + 2 * 6)),
        ("comrope-ld", 3 * (4 + 2 * 6) + 2 * 2),
        ("mrope", 0),
        ("mhrope", 0),
        ("rethinking", 28),
        ("string", 3 * 28 + 3 * 4),
        ("string-circulant", 2 * 3 * 8),
        ("harope", 3 * (2 * 28 + 8)),
    ],
)
def test_parameter_counts_are_those_of_the_methods(name, parameters):
    assert count(name) == parameters


@pytest.mark.parametrize(
    ("basis", "entries"), [("svd", 64), ("orthogonal", 28), ("free", 64), ("diagonal", 8)]
)
def test_a_shared_basis_has_one_matrix_for_all_heads(basis, entries):
    assert count("harope", basis=basis) == 3 * entries
    assert count("harope", basis=basis, per_head=False) == entries


def test_options_replace_parts_of_a_preset():
    config = encoding_config("harope", theta=100.0, axes_dim=[6, 2], frequencies="axial")
    assert config == EncodingConfig(frequencies="axial", basis="svd", theta=100.0, axes_dim=(6, 2))


def test_axes_dim_and_theta_reach_the_frequencies():
    encoding = create_encoding("axial", **SIZES, axes_dim=(6, 2), theta=64.0)
    angles = encoding.frequencies(torch.tensor([[2.0, 5.0]]))
    torch.testing.assert_close(angles, torch.tensor([[2, 2 / 4, 2 / 16, 5]]))


def test_row_sizes_reach_raster():
    encoding = create_encoding("rope", **SIZES, row_sizes=(1, 50))
    assert encoding.frequencies(grid_positions(2, 2))[:, 0].tolist() == [0, 1, 50, 51]


def test_ape_takes_theta():
    encoding = create_encoding("ape", num_heads=1, head_dim=8, theta=16.0)
    embedded = encoding.embed(torch.tensor([[0.0, 2.0]]))
    torch.testing.assert_close(embedded[0, :2], torch.tensor([2.0, 0.5]).sin())


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("harpoe", {}, r"encoding 'harpoe' is unknown: did you mean 'harope'\?"),
        ("xyz", {}, r"encoding 'xyz' is unknown: use one of none, ape"),
        ("harope", {"pairng": "same"}, r"option 'pairng' is unknown: did you mean 'pairing'\?"),
        ("harope", {"pairing": "both"}, r"pairing 'both' is unknown: use one of same, inverse"),
        ("harope", {"theta": 0.0}, r"theta 0.0 must be positive: 10000 is usual"),
        ("ape", {"frequencies": "axial"}, r"frequencies 'axial' and embedding 'sincos' exclude"),
        ("none", {"basis": "svd"}, r"basis 'svd' needs frequencies to act with, got 'none'"),
        ("string-circulant", {"layout": "half"}, r"layout is 'half': use 'interleaved'"),
        ("ape-learned", {}, r"needs grid_sizes for 2 axes, got None: pass the tokens per axis"),
        ("ape-learned", {"grid_sizes": (4,)}, r"needs grid_sizes for 2 axes, got \(4,\)"),
        ("axial", {"head_dim": 6}, r"head_dim 6 cannot be shared equally by 2 axes"),
        ("axial", {"num_heads": 0}, r"num_heads 0 and num_axes 2 must be positive"),
        ("axial", {"num_axes": 0}, r"num_heads 3 and num_axes 0 must be positive"),
    ],
)
@pytest.mark.usefixtures("annotations_unchecked")
def test_mistakes_are_named_with_their_mend(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_encoding(name, **{**SIZES, **options})


class Model(nn.Module):
    """A layer, a norm and an encoding."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(4, 4), nn.LayerNorm(4)
        self.attn = nn.ModuleDict({"harope": make("string", **SIZES)})
        self.pos_embed = make("ape-learned", **SIZES)


def test_encoding_parameters_are_those_inside_encodings():
    model = Model()
    expected = [*model.attn["harope"].parameters(), *model.pos_embed.parameters()]
    assert {id(p) for p in encoding_parameters(model)} == {id(p) for p in expected}


def test_encodings_that_layers_share_count_once():
    encoding = make("harope")
    model = nn.ModuleList([encoding, nn.ModuleDict({"harope": encoding})])
    assert len(encoding_parameters(model)) == 3


def test_weights_decay_but_encodings_biases_and_norms_do_not():
    model = Model()
    decayed, kept = parameter_groups(model, 0.05)
    assert (decayed["weight_decay"], kept["weight_decay"]) == (0.05, 0.0)
    assert [id(p) for p in decayed["params"]] == [id(model.layer.weight)]
    others = {id(p) for p in model.parameters()} - {id(model.layer.weight)}
    assert {id(p) for p in kept["params"]} == others


def test_frozen_parameters_are_in_no_group():
    model = Model()
    model.layer.requires_grad_(False)
    decayed, kept = parameter_groups(model, 0.05)
    assert decayed["params"] == []
    assert all(p.requires_grad for p in kept["params"])


def test_groups_make_an_optimizer_that_leaves_singular_values_alone():
    encoding = make("harope")
    before = encoding.basis.raw_scale.detach().clone()
    optimizer = torch.optim.AdamW(parameter_groups(encoding, 0.5), lr=0.1)
    for parameter in encoding.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert torch.equal(encoding.basis.raw_scale, before)


@pytest.mark.parametrize(
    ("name", "option"),
    [
        ("mixed", {"axes_dim": (6, 2)}),
        ("rope", {"learned_frequencies": True}),
        ("axial", {"row_sizes": (4, 4)}),
        ("ape", {"grid_sizes": (4, 4)}),
        ("axial", {"pairing": "inverse"}),
        ("axial", {"per_head": False}),
        ("axial", {"orthogonal_map": "cayley"}),
        ("rethinking", {"pairing": "same"}),
        ("harope", {"basis": "free", "orthogonal_map": "exp"}),
        ("harope", {"frequencies": "host", "layout": "half"}),
        ("none", {"theta": 100.0}),
        ("ape-learned", {"theta": 100.0}),
        ("string-circulant", {"per_head": True}),
    ],
)
def test_options_that_would_do_nothing_are_refused(name, option):
    with pytest.raises(ValueError, match=f"{list(option)[-1]} has no effect with .*: leave it out"):
        encoding_config(name, **option)


@pytest.mark.parametrize(
    ("name", "option", "words"),
    [
        ("axial", {"theta": "big"}, "theta 'big' must be a number"),
        ("axial", {"theta": None}, "theta None must be a number"),
        ("axial", {"theta": True}, "theta True must be a number"),
        ("axial", {"axes_dim": 8}, "axes_dim 8 must be a list of whole numbers"),
        ("axial", {"axes_dim": [8.5, 8]}, r"axes_dim \[8.5, 8\] must be a list of whole numbers"),
        ("harope", {"per_head": 0}, "per_head 0 must be true or false"),
        ("axial", {"learned_frequencies": "yes"}, "learned_frequencies 'yes' must be true or"),
    ],
)
def test_values_of_another_type_are_refused(name, option, words):
    with pytest.raises(ValueError, match=words):
        encoding_config(name, **option)


def test_numbers_and_lists_of_json_are_taken():
    config = encoding_config("axial", theta=100, axes_dim=[12, 4])
    assert (config.theta, config.axes_dim) == (100.0, (12, 4))
    assert isinstance(config.theta, float)


@pytest.mark.parametrize(
    "fields",
    [
        {"frequencies": "mixed", "axes_dim": (6, 2)},
        {"frequencies": "axial", "per_head": False},
        {"frequencies": "axial", "pairing": "same"},
        {"frequencies": "axial", "basis": "orthogonal", "pairing": "same"},
        {"frequencies": "host", "basis": "svd", "theta": 100.0},
        {"embedding": "learned", "layout": "half"},
        {"theta": 100.0},
    ],
)
def test_configurations_refuse_fields_without_effect(fields):
    with pytest.raises(ValueError, match=f"{list(fields)[-1]} has no effect with .*: leave it out"):
        EncodingConfig(**fields)


def test_parts_of_a_preset_that_lose_their_effect_get_their_defaults():
    config = encoding_config("harope-v1", basis="orthogonal")
    assert config == EncodingConfig(frequencies="axial", basis="orthogonal")
    config = encoding_config("mixed", frequencies="host", basis="svd")
    assert config == EncodingConfig(frequencies="host", basis="svd")


def test_a_configuration_creates_what_its_name_creates():
    config = encoding_config("harope", per_head=False)
    torch.manual_seed(0)
    by_name = create_encoding("harope", **SIZES, per_head=False)
    torch.manual_seed(0)
    by_config = create_encoding(config, **SIZES)
    assert str(by_config) == str(by_name)
    shapes = [{k: v.shape for k, v in e.state_dict().items()} for e in (by_name, by_config)]
    assert shapes[0] == shapes[1]
    assert create_encoding(config, **SIZES, theta=10.0).frequencies.theta == 10.0
    with pytest.raises(ValueError, match=r"encoding config: row_sizes has no effect"):
        create_encoding(config, **SIZES, row_sizes=None)


def test_a_new_family_and_a_new_basis_are_one_class_each():
    class Still(Frequencies):
        name = "still"
        options = ("theta",)

        def __init__(self, head_dim, num_axes, theta):
            super().__init__()
            self.head_dim, self.num_axes, self.theta = head_dim, num_axes, theta

        @classmethod
        def from_config(cls, config, *, num_heads, head_dim, num_axes):
            return cls(head_dim, num_axes, config.theta)

        @property
        def learned(self):
            return False

        def forward(self, positions):
            return torch.zeros(len(positions), self.head_dim // 2)

    class Doubled(Basis):
        name = "doubled"

        @classmethod
        def from_config(cls, config, *, num_heads, head_dim, num_axes):
            return cls()

        def forward(self):
            return 2 * torch.eye(8)[None], torch.eye(8)[None]

    config = EncodingConfig(frequencies="still", basis="doubled", theta=5.0)
    encoding = create_encoding(config, **SIZES)
    assert encoding.frequencies.theta == 5.0
    q, k = torch.randn(2, 1, 3, 4, 8)
    ours = encoding(q, k, grid_positions(2, 2))
    torch.testing.assert_close(ours, (2 * q, k))
    with pytest.raises(ValueError, match=r"layout has no effect with frequencies 'still'"):
        EncodingConfig(frequencies="still", layout="half")


# --- two methods under one name


def test_harope_is_the_published_method_and_v1_the_first_version():
    generator = torch.Generator().manual_seed(0)
    q, k = torch.randn(2, 1, 2, 6, 8, generator=generator, dtype=torch.float64)
    positions = torch.rand(6, 2, generator=generator, dtype=torch.float64) * 9
    axial = create_encoding("axial", num_heads=2, head_dim=8)
    for name in ("harope", "harope-v1"):
        encoding = create_encoding(name, num_heads=2, head_dim=8).double()
        with torch.no_grad():
            for parameter in encoding.parameters():
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
        m_q, _ = encoding.matrices()
        # R A^T q and R A^-1 k with A = M^T; R A q and R A k with A = M.
        m_k = torch.linalg.inv(m_q).mT if name == "harope" else m_q
        expected = axial(
            torch.einsum("hij,bhnj->bhni", m_q, q),
            torch.einsum("hij,bhnj->bhni", m_k, k),
            positions,
        )
        torch.testing.assert_close(encoding(q, k, positions), expected)
