"""facebookresearch/DiT `.pt` files, made up here after the description of the format."""

import argparse
import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from harope import DiT, create_encoding, grid_positions
from harope.models.dit.convert import read_dit_checkpoint

WIDTH, HEADS, DEPTH, PATCH, CHANNELS, CLASSES, SIDE = 32, 2, 2, 2, 4, 5, 4
DIM = WIDTH // HEADS

State = dict[str, Tensor]


def linear(state: State, name: str, rows: int, columns: int) -> None:
    state[f"{name}.weight"] = 0.1 * torch.randn(rows, columns)
    state[f"{name}.bias"] = 0.1 * torch.randn(rows)


def released(*, rows: int = CLASSES + 1, patch: int = PATCH, variance: bool = True) -> State:
    """A DiT without positions, random weights."""
    torch.manual_seed(0)
    state: State = {}
    state["x_embedder.proj.weight"] = 0.1 * torch.randn(WIDTH, CHANNELS, patch, patch)
    state["x_embedder.proj.bias"] = 0.1 * torch.randn(WIDTH)
    linear(state, "t_embedder.mlp.0", WIDTH, 256)
    linear(state, "t_embedder.mlp.2", WIDTH, WIDTH)
    state["y_embedder.embedding_table.weight"] = torch.randn(rows, WIDTH)
    for i in range(DEPTH):
        linear(state, f"blocks.{i}.attn.qkv", 3 * WIDTH, WIDTH)
        linear(state, f"blocks.{i}.attn.proj", WIDTH, WIDTH)
        linear(state, f"blocks.{i}.mlp.fc1", 4 * WIDTH, WIDTH)
        linear(state, f"blocks.{i}.mlp.fc2", WIDTH, 4 * WIDTH)
        linear(state, f"blocks.{i}.adaLN_modulation.1", 6 * WIDTH, WIDTH)
    outputs = patch**2 * CHANNELS * (2 if variance else 1)
    linear(state, "final_layer.linear", outputs, WIDTH)
    linear(state, "final_layer.adaLN_modulation.1", 2 * WIDTH, WIDTH)
    return state


def with_sincos(state: State) -> State:
    w = 10000.0 ** (-torch.arange(WIDTH // 4, dtype=torch.float64) / (WIDTH // 4))
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    blocks = [
        torch.cat([a.sin(), a.cos()], -1) for a in (x.reshape(-1, 1) * w, y.reshape(-1, 1) * w)
    ]
    return {**state, "pos_embed": torch.cat(blocks, -1).float()[None]}


def with_table(state: State) -> State:
    return {**state, "pos_embed": 0.1 * torch.randn(1, SIDE**2, WIDTH)}


def with_harope(state: State) -> State:
    rotations = {}
    for i in range(DEPTH):
        name = f"blocks.{i}.attn.learnable_rot"
        rotations[f"{name}.A_u"] = 0.3 * torch.randn(HEADS, DIM, DIM)
        rotations[f"{name}.A_v"] = 0.3 * torch.randn(HEADS, DIM, DIM)
        rotations[f"{name}.sigma"] = torch.randn(HEADS, DIM)
    return {**state, **rotations}


KINDS = {"ape": with_sincos, "ape-learned": with_table, "harope": with_harope}


# --- the network again, from the formulas and in float64


def reference(state: State, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
    state = {name: value.double() for name, value in state.items()}

    def apply(name: str, value: Tensor) -> Tensor:
        return value @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(value: Tensor) -> Tensor:
        centred = value - value.mean(-1, keepdim=True)
        return centred / (centred.square().mean(-1, keepdim=True) + 1e-6).sqrt()

    def silu(value: Tensor) -> Tensor:
        return value * value.sigmoid()

    patches = state["x_embedder.proj.weight"]
    size = patches.shape[-1]
    tokens = F.conv2d(x, patches, state["x_embedder.proj.bias"], stride=size)
    rows, columns = tokens.shape[-2:]
    tokens = tokens.flatten(2).mT + state.get("pos_embed", 0)
    angles = t[:, None] * torch.exp(-torch.arange(128).double() * torch.tensor(1e4).log() / 128)
    condition = torch.cat([angles.cos(), angles.sin()], -1)
    condition = apply("t_embedder.mlp.2", silu(apply("t_embedder.mlp.0", condition)))
    condition = condition + state["y_embedder.embedding_table.weight"][y]
    for i in range(DEPTH):
        parts = apply(f"blocks.{i}.adaLN_modulation.1", silu(condition))[:, None].chunk(6, -1)
        seen = norm(tokens) * (1 + parts[1]) + parts[0]
        q, k, v = apply(f"blocks.{i}.attn.qkv", seen).unflatten(-1, (3, HEADS, DIM)).unbind(2)
        weights = scores(state, i, q, k, rows, columns).softmax(-1)
        mixed = torch.einsum("bhmn,bnhd->bmhd", weights, v).flatten(2)
        tokens = tokens + parts[2] * apply(f"blocks.{i}.attn.proj", mixed)
        seen = norm(tokens) * (1 + parts[4]) + parts[3]
        hidden = apply(f"blocks.{i}.mlp.fc1", seen)
        hidden = (
            0.5 * hidden * (1 + torch.tanh((2 / torch.pi) ** 0.5 * (hidden + 0.044715 * hidden**3)))
        )
        tokens = tokens + parts[5] * apply(f"blocks.{i}.mlp.fc2", hidden)
    shift, scale = apply("final_layer.adaLN_modulation.1", silu(condition))[:, None].chunk(2, -1)
    out = apply("final_layer.linear", norm(tokens) * (1 + scale) + shift)
    out = out.reshape(len(x), rows, columns, size, size, -1)
    return torch.einsum("nhwpqc->nchpwq", out).flatten(4, 5).flatten(2, 3)


def scores(state: State, i: int, q: Tensor, k: Tensor, rows: int, columns: int) -> Tensor:
    """q_m^T A^T R(p_n - p_m) A^-T k_n / sqrt(d), with R a matrix for every pair of tokens."""
    name = f"blocks.{i}.attn.learnable_rot"
    if f"{name}.sigma" not in state:
        return torch.einsum("bmhd,bnhd->bhmn", q, k) / DIM**0.5
    raw_u, raw_v = state[f"{name}.A_u"], state[f"{name}.A_v"]
    u, v = (torch.linalg.matrix_exp((raw - raw.mT) / 2) for raw in (raw_u, raw_v))
    scale = (1 + state[f"{name}.sigma"].exp()).log() + 1e-6
    a = u @ torch.diag_embed(scale) @ v.mT
    inverse = torch.linalg.inv(a)
    places = torch.cartesian_prod(torch.arange(rows), torch.arange(columns)).double()
    offset = places[None] - places[:, None]
    turn = torch.zeros(*offset.shape[:2], DIM, DIM, dtype=torch.float64)
    for pair in range(DIM // 2):
        # Half the pairs count rows, half count columns.
        axis, j = divmod(pair, DIM // 4)
        angle = offset[..., axis] * 10000.0 ** (-2 * j / (DIM // 2))
        one, two = 2 * pair, 2 * pair + 1
        turn[..., one, one] = turn[..., two, two] = angle.cos()
        turn[..., two, one], turn[..., one, two] = angle.sin(), -angle.sin()
    moved_q = torch.einsum("hij,bmhj->bmhi", a, q)
    moved_k = torch.einsum("hji,bnhj->bnhi", inverse, k)
    return torch.einsum("bmhi,mnij,bnhj->bhmn", moved_q, turn, moved_k) / DIM**0.5


# --- loading


def write(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def load(path: Path, **options) -> DiT:
    return DiT.from_checkpoint(path, num_heads=HEADS, **options)


def inputs(rows: int = SIDE, columns: int = SIDE) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(5)
    x = torch.randn(2, CHANNELS, PATCH * rows, PATCH * columns).double()
    return x, 1000 * torch.rand(2).double(), torch.tensor([3, 5])


def assert_same_function(model: DiT, state: State, *sizes: int) -> None:
    x, t, y = inputs(*sizes)
    with torch.no_grad():
        ours = model.double()(x, t, y)
    torch.testing.assert_close(ours, reference(state, x, t, y), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_released_model_computes_what_its_formulas_say(tmp_path, kind):
    state = KINDS[kind](released())
    args = argparse.Namespace(model="DiT", num_classes=CLASSES, image_size=64, lr=1e-4)
    content = {"model": {}, "ema": state, "opt": {"state": {}}, "args": args}
    model = load(write(tmp_path / "released.pt", content))
    assert model.config.encoding == kind
    assert_same_function(model, state)


def test_a_released_harope_model_reads_rectangles(tmp_path):
    state = with_harope(released())
    assert_same_function(load(write(tmp_path / "released.pt", state)), state, 3, 5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_state_dict_is_read(tmp_path, kind):
    state = KINDS[kind](released())
    assert_same_function(load(write(tmp_path / "bare.pt", state)), state)


def test_files_of_the_old_format_are_read(tmp_path):
    state = with_harope(released())
    torch.save(state, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert_same_function(load(tmp_path / "old.pt"), state)


def test_ema_and_model_weights_are_distinguished(tmp_path):
    averaged, last = with_harope(released()), with_harope(released())
    last["x_embedder.proj.bias"] = last["x_embedder.proj.bias"] + 1
    path = write(
        tmp_path / "both.pt", {"model": last, "ema": averaged, "args": argparse.Namespace()}
    )
    assert_same_function(load(path), averaged)
    assert_same_function(load(path, weights="model"), last)


def test_half_precision_weights_become_float32(tmp_path):
    state = {name: value.bfloat16() for name, value in with_harope(released()).items()}
    model = load(write(tmp_path / "half.pt", state))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert_same_function(model, state)


@pytest.mark.parametrize("sigma", [-40.0, -8.0, 0.0, 30.0, 90.0])
def test_scales_are_softplus_of_sigma_plus_a_millionth(tmp_path, sigma):
    state = with_harope(released())
    state["blocks.0.attn.learnable_rot.sigma"].fill_(sigma)
    basis = load(write(tmp_path / "scales.pt", state)).blocks[0].attn.harope.basis
    expected = torch.tensor(sigma).double().exp().log1p() + 1e-6
    ours = F.softplus(basis.raw_scale.detach())
    torch.testing.assert_close(ours.double(), expected.expand(HEADS, DIM), rtol=2e-6, atol=0)


# --- architecture from shapes


@pytest.mark.parametrize("patch", [2, 4, 8])
@pytest.mark.parametrize("variance", [True, False])
def test_patch_and_variance_are_read_off_the_shapes(tmp_path, patch, variance):
    state = with_harope(released(patch=patch, variance=variance))
    config = load(write(tmp_path / "shapes.pt", state)).config
    assert (config.depth, config.width, config.num_heads) == (DEPTH, WIDTH, HEADS)
    assert (config.patch_size, config.learned_variance) == (patch, variance)
    assert (config.num_classes, config.null_class) == (CLASSES, CLASSES)


def test_a_model_trained_without_label_dropout_has_no_null_class(tmp_path):
    content = {
        "ema": with_table(released(rows=CLASSES)),
        "args": argparse.Namespace(num_classes=CLASSES),
    }
    config = load(write(tmp_path / "classes.pt", content)).config
    assert (config.num_classes, config.null_class) == (CLASSES, None)


def test_the_number_of_heads_of_harope_is_that_of_its_matrices(tmp_path):
    config, _ = read_dit_checkpoint(write(tmp_path / "heads.pt", with_harope(released())))
    assert config.num_heads == HEADS


def test_heads_of_an_unknown_size_must_be_given(tmp_path):
    path = write(tmp_path / "heads.pt", with_sincos(released()))
    with pytest.raises(
        ValueError, match=r"depth 2 and width 32 .* number of heads is unknown: pass num_heads"
    ):
        DiT.from_checkpoint(path)


def test_heads_of_the_papers_models_are_known(tmp_path):
    with torch.device("meta"):
        state = DiT("DiT-S/8", encoding="none").state_dict()
    zeros = {name: torch.zeros(1).expand(value.shape) for name, value in state.items()}
    zeros["pos_embed"] = torch.zeros(1, 16, 384)
    config, _ = read_dit_checkpoint(write(tmp_path / "small.pt", zeros))
    assert config.num_heads == 6


def test_weights_of_unknown_encoding_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"neither pos_embed nor learnable_rot.*create the DiT"):
        load(write(tmp_path / "rotary.pt", released()))


def test_the_fixed_embedding_is_recognised_and_not_stored(tmp_path):
    config, state = read_dit_checkpoint(
        write(tmp_path / "ape.pt", with_sincos(released())), num_heads=HEADS
    )
    assert config.encoding == "ape"
    assert not any("pos_embed" in name for name in state)
    ours = create_encoding("ape", num_heads=HEADS, head_dim=DIM).embed(grid_positions(SIDE, SIDE))
    torch.testing.assert_close(ours, with_sincos({})["pos_embed"][0], rtol=0, atol=1e-6)


# --- files that are not what they should be


class Hostile:
    """Would make a file when unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("place", ["alone", "weights", "args", "inside args"])
@pytest.mark.parametrize("old_format", [False, True])
def test_a_file_that_holds_code_is_refused_and_runs_nothing(tmp_path, place, old_format):
    trap = tmp_path / "trap"
    hostile = Hostile(trap)
    content = {
        "alone": hostile,
        "weights": {"ema": {**with_sincos(released()), "extra": hostile}},
        "args": {"ema": with_sincos(released()), "args": hostile},
        "inside args": {"ema": with_sincos(released()), "args": argparse.Namespace(lr=hostile)},
    }[place]
    path = tmp_path / "hostile.pt"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ValueError, match=r"hostile.pt would run code when opened.*not loaded"):
        load(path)
    assert not trap.exists()


def test_a_plain_pickle_is_refused_and_runs_nothing(tmp_path):
    path = tmp_path / "plain.pt"
    path.write_bytes(pickle.dumps(Hostile(tmp_path / "trap"), protocol=2))
    with pytest.raises(
        ValueError, match=r"plain.pt would run code when opened, or is not a checkpoint"
    ):
        load(path)
    assert not (tmp_path / "trap").exists()


def test_the_allowed_class_is_allowed_for_our_files_alone(tmp_path):
    path = write(
        tmp_path / "args.pt", {"ema": with_sincos(released()), "args": argparse.Namespace(a=1)}
    )
    load(path)
    with pytest.raises(pickle.UnpicklingError, match=r"argparse.Namespace"):
        torch.load(path, weights_only=True)


@pytest.mark.parametrize("old_format", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_named(tmp_path, share, old_format):
    path = tmp_path / "cut.pt"
    torch.save(with_harope(released()), path, _use_new_zipfile_serialization=not old_format)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"cut.pt (cannot be read|would run code)"):
        load(path)


FOREIGN = {
    "empty": {},
    "list": [1, 2],
    "tensor": torch.zeros(3),
    "other keys": {"state_dict": {}},
    "other model": {"model": {}, "ema": {"weight": torch.zeros(2)}},
    "patches of another shape": {"ema": {"x_embedder.proj.weight": torch.zeros(4, 4)}},
    "patches that are no tensor": {"ema": {"x_embedder.proj.weight": 3}},
}


@pytest.mark.parametrize("content", FOREIGN)
def test_a_foreign_file_is_refused(tmp_path, content):
    with pytest.raises(ValueError, match=r"is not a facebookresearch/DiT checkpoint.*under 'ema'"):
        load(write(tmp_path / "foreign.pt", FOREIGN[content]))


@pytest.mark.parametrize(
    "missing",
    ["final_layer.linear.weight", "y_embedder.embedding_table.weight", "blocks.0.mlp.fc1.weight"],
)
def test_a_file_without_a_needed_weight_names_it(tmp_path, missing):
    state = with_sincos(released())
    del state[missing]
    with pytest.raises(ValueError, match=rf"not a facebookresearch/DiT checkpoint: no '{missing}'"):
        load(write(tmp_path / "missing.pt", state))


def test_values_that_are_no_tensors_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"facebookresearch/DiT checkpoint: epoch is not a tensor"):
        load(write(tmp_path / "epoch.pt", {**with_sincos(released()), "epoch": 3}))


@pytest.mark.parametrize("extra", ["blocks.0.attn.q_norm.weight", "logit_scale"])
def test_unknown_weights_are_refused(tmp_path, extra):
    with pytest.raises(
        ValueError, match=rf"does not fit its configuration: .*unknown \['{extra}'\]"
    ):
        load(write(tmp_path / "extra.pt", {**with_sincos(released()), extra: torch.zeros(3)}))


def test_another_shape_is_named(tmp_path):
    state = with_sincos(released())
    state["blocks.1.attn.proj.bias"] = torch.zeros(7)
    message = r"blocks.1.attn.proj.bias has the shape \(7,\), expected \(32,\)"
    with pytest.raises(ValueError, match=message):
        load(write(tmp_path / "shape.pt", state))
