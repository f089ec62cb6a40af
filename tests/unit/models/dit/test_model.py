"""The diffusion transformer."""

import copy

import pytest
import torch
from torch import nn

import harope
from harope import DiT, DiTConfig, list_encodings
from harope.models.dit import DIT_SIZES
from harope.models.dit import model as model_module
from harope.models.dit.embeddings import LabelEmbedding, TimestepEmbedding
from harope.models.dit.layers import PositionInputs, folded_projections
from support.encoding import ABSOLUTE, randomise

TINY = DiTConfig(depth=2, width=16, num_heads=2, patch_size=2, num_classes=5)
OPTIONS = {
    "ape-learned": {"grid_sizes": (4, 4)},
    "spiral": {"num_directions": 2},
    "mrope": {"theta": 10.0},
}
"""Options for heads of 8 or 16 channels."""


def options_of(encoding: str) -> dict:
    return {"encoding": encoding, "encoding_options": OPTIONS.get(encoding, {})}


def inputs(batch: int = 2, height: int = 8, width: int = 8) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(7)
    return torch.randn(batch, 4, height, width), 1000 * torch.rand(batch), torch.arange(batch) % 5


# --- sizes


@pytest.mark.parametrize("size", DIT_SIZES)
def test_every_size_maps_images_to_predictions_of_their_shape(size):
    with torch.device("meta"):
        model = DiT(size, depth=1)
        out = model(torch.zeros(2, 4, 32, 16), torch.zeros(2), torch.zeros(2, dtype=torch.long))
    assert out.shape == (2, 8, 32, 16)


@pytest.mark.parametrize(
    ("size", "millions"), [("S/2", 33), ("B/2", 130), ("L/2", 458), ("XL/2", 675)]
)
def test_parameter_counts_are_the_published_ones(size, millions):
    with torch.device("meta"):
        model = DiT(f"DiT-{size}", encoding="ape")
    count = sum(parameter.numel() for parameter in model.parameters())
    # Published with the fixed embedding of 256 tokens, and cut to whole millions.
    assert abs((count + 256 * model.config.width) / 1e6 - millions) < 1


@pytest.mark.parametrize("size", ["S/2", "B/2", "XL/2"])
def test_harope_adds_two_generators_and_the_scales_of_every_head(size):
    with torch.device("meta"):
        models = [DiT(f"DiT-{size}", encoding=encoding) for encoding in ("axial", "harope")]
    axial, harope = (sum(p.numel() for p in model.parameters()) for model in models)
    config = models[0].config
    per_head = config.head_dim * (config.head_dim - 1) + config.head_dim
    assert harope - axial == config.depth * config.num_heads * per_head


# --- initial weights


@pytest.mark.parametrize("encoding", list_encodings())
def test_the_network_starts_at_zero(encoding):
    out = DiT(TINY, **options_of(encoding))(*inputs())
    assert torch.equal(out, torch.zeros(2, 8, 8, 8))


def test_blocks_start_as_the_identity():
    model = DiT(TINY)
    tokens, condition = torch.randn(2, 16, 16), torch.randn(2, 16)
    assert torch.equal(
        model.blocks[0](tokens, condition, PositionInputs(torch.zeros(16, 2))), tokens
    )


def test_initial_weights_have_the_spreads_of_the_paper():
    torch.manual_seed(0)
    model = DiT(TINY, width=256, num_classes=500)
    for table in (model.y_embedder.embedding_table, *model.t_embedder.mlp[::2]):
        assert table.weight.std().item() == pytest.approx(0.02, rel=0.02)
    qkv, patches = model.blocks[0].attn.qkv.weight, model.x_embedder.proj.weight
    for weight in (qkv, patches.flatten(1)):
        bound = (6 / sum(weight.shape)) ** 0.5
        assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            assert not module.bias.any()


@pytest.mark.parametrize("encoding", list_encodings())
def test_encodings_change_their_own_keys_alone(encoding):
    plain = DiT(TINY, encoding="none").state_dict()
    keys = set(DiT(TINY, **options_of(encoding)).state_dict())
    assert set(plain) <= keys
    own = (
        ("pos_embed.",)
        if encoding in ABSOLUTE
        else ("blocks.0.attn.harope.", "blocks.1.attn.harope.")
    )
    assert all(key.startswith(own) for key in keys - set(plain))


@pytest.mark.parametrize("encoding", list_encodings())
def test_initial_weights_outside_the_encoding_do_not_depend_on_it(encoding):
    torch.manual_seed(3)
    plain = DiT(TINY, encoding="none").state_dict()
    torch.manual_seed(3)
    other = DiT(TINY, **options_of(encoding)).state_dict()
    for name, value in plain.items():
        assert torch.equal(other[name], value), name


def test_layers_draw_their_own_random_frequencies():
    torch.manual_seed(0)
    first, second = (block.attn.harope.frequencies for block in DiT(TINY, encoding="mixed").blocks)
    assert not torch.equal(first.wave_vectors, second.wave_vectors)


# --- forward


@pytest.mark.parametrize("encoding", list_encodings())
def test_grids_may_be_rectangular_and_change_between_calls(small_dit, encoding):
    model = small_dit(**options_of(encoding))
    x, t, y = inputs(height=8, width=8)
    before = model(x, t, y)
    for height, width in ((4, 12), (12, 4), (2, 2)):
        assert model(torch.randn(2, 4, height, width), t, y).shape == (2, 8, height, width)
    assert torch.equal(model(x, t, y), before)


def test_swapping_the_sides_of_image_and_weights_swaps_the_output(small_dit):
    """Without positions a transposed image is the same set of tokens."""
    model = small_dit(encoding="none")
    x, t, y = inputs(height=4, width=10)
    expected = model(x, t, y).mT
    twin = copy.deepcopy(model)
    twin.x_embedder.proj.weight.data = model.x_embedder.proj.weight.mT
    for name in ("weight", "bias"):
        rows = getattr(model.final_layer.linear, name).data.unflatten(0, (2, 2, 8))
        getattr(twin.final_layer.linear, name).data = rows.transpose(0, 1).flatten(0, 2)
    torch.testing.assert_close(twin(x.mT, t, y), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("encoding", [name for name in list_encodings() if name != "none"])
def test_positions_matter(small_dit, encoding):
    model = small_dit(**options_of(encoding))
    x, t, y = inputs()
    # Exchanging the halves of the image exchanges the output of a set, but not of an image.
    rolled = model(x.roll(4, -1), t, y).roll(-4, -1)
    assert not torch.allclose(rolled, model(x, t, y), atol=1e-3)


def test_without_positions_tokens_are_a_set(small_dit):
    model = small_dit(encoding="none")
    x, t, y = inputs()
    rolled = model(x.roll(4, -1), t, y).roll(-4, -1)
    torch.testing.assert_close(rolled, model(x, t, y), rtol=1e-4, atol=1e-5)


def test_samples_do_not_mix(small_dit):
    model = small_dit()
    x, t, y = inputs(batch=4)
    together = model(x, t, y)
    for sample in range(4):
        alone = model(x[sample, None], t[sample, None], y[sample, None])
        torch.testing.assert_close(together[sample, None], alone, rtol=1e-4, atol=1e-5)


def test_time_and_label_condition_every_sample(small_dit):
    model = small_dit()
    x, t, y = inputs()
    out = model(x, t, y)
    assert not torch.allclose(model(x, t + 100, y), out, atol=1e-4)
    assert not torch.allclose(model(x, t, y + 1), out, atol=1e-4)


def test_times_are_embedded_by_256_sinusoids_cosines_first():
    embedding = TimestepEmbedding(256).double()
    embedding.mlp = nn.Identity()
    t = torch.tensor([0.0, 421.7])
    place = torch.arange(128, dtype=torch.float64)
    angles = t.double()[:, None] * 10000 ** (-place / 128)
    expected = torch.cat([angles.cos(), angles.sin()], dim=-1)
    torch.testing.assert_close(embedding(t, torch.float64), expected, rtol=0, atol=1e-4)


def test_models_without_classes_take_no_labels(small_dit):
    model = small_dit(num_classes=0)
    x, t, _ = inputs()
    assert model.y_embedder is None
    assert model(x, t).shape == (2, 8, 8, 8)


# --- labels


def null_of(model: DiT) -> torch.Tensor:
    return torch.full((2,), model.config.null_class)


def test_dropped_labels_are_the_null_class(small_dit):
    model = small_dit()
    x, t, y = inputs()
    dropped = model(x, t, y, drop_labels=torch.tensor([True, False]))
    assert torch.equal(dropped[0], model(x, t, null_of(model))[0])
    assert torch.equal(dropped[1], model(x, t, y)[1])


def test_labels_are_dropped_at_random_in_training_alone():
    torch.manual_seed(0)
    embedding = LabelEmbedding(DiTConfig(**{**TINY.to_dict(), "label_dropout": 0.3}))
    labels = torch.zeros(4000, dtype=torch.long)
    null = embedding.embedding_table.weight[5]
    dropped = (embedding(labels) == null).all(-1).double().mean().item()
    # Four standard deviations of a binomial share.
    assert abs(dropped - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5
    embedding.eval()
    assert not (embedding(labels) == null).all(-1).any()


def test_given_drops_replace_the_random_ones():
    embedding = LabelEmbedding(DiTConfig(**{**TINY.to_dict(), "label_dropout": 0.9}))
    labels = torch.zeros(100, dtype=torch.long)
    kept = embedding(labels, torch.zeros(100, dtype=torch.bool))
    assert torch.equal(kept, embedding.embedding_table(labels))


def test_models_without_dropout_have_no_null_class(small_dit):
    model = small_dit(label_dropout=0.0).train()
    x, t, y = inputs()
    assert len(model.y_embedder.embedding_table.weight) == 5
    assert torch.equal(model(x, t, y, drop_labels=torch.tensor([True, True])), model(x, t, y))


# --- training


def gradients(model: DiT) -> list[torch.Tensor]:
    x, t, y = inputs(batch=3)
    model.zero_grad()
    out = model(x, t, y, drop_labels=torch.tensor([True, False, False]))
    (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    return [out.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)]


@pytest.mark.parametrize("encoding", ["harope", "mixed", "ape-learned"])
def test_gradient_checkpointing_gives_the_same_gradients(small_dit, encoding):
    model = small_dit(**options_of(encoding)).train()
    expected = gradients(model)
    model.gradient_checkpointing = True
    for ours, wanted in zip(gradients(model), expected, strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("encoding", list_encodings())
def test_gradients_reach_all_parameters(small_dit, encoding):
    model = small_dit(**options_of(encoding)).train()
    gradients(model)
    unused = model.y_embedder.embedding_table.weight
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name
    assert unused.grad[[1, 2, 5]].any(dim=-1).all()


@pytest.mark.parametrize("encoding", ["harope", "ape", "mixed"])
def test_bfloat16_autocast_stays_near_float32(small_dit, encoding):
    model = small_dit(**options_of(encoding))
    expected = model(*inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = model(*inputs())
    assert out.dtype == torch.float32
    assert (out - expected).norm() < 2**-5 * expected.norm()


def test_a_bfloat16_model_returns_bfloat16(small_dit):
    model = small_dit()
    expected = model(*inputs())
    x, t, y = inputs()
    out = model.bfloat16()(x.bfloat16(), t, y)
    assert out.dtype == torch.bfloat16
    assert (out.float() - expected).norm() < 2**-4 * expected.norm()


def test_regularization_sums_over_the_layers(small_dit):
    model = small_dit()
    expected = sum(block.attn.harope.regularization() for block in model.blocks)
    torch.testing.assert_close(model.regularization(), expected)
    assert expected > 0
    assert small_dit(encoding="axial").regularization() == 0


def test_the_basis_is_computed_once_in_a_cached_scope(small_dit, monkeypatch):
    model, calls = small_dit(), []
    basis = model.blocks[0].attn.harope.basis
    compute = basis.forward
    monkeypatch.setattr(basis, "forward", lambda *args: calls.append(1) or compute(*args))
    with torch.no_grad(), harope.cached(model):
        for _ in range(3):
            model(*inputs())
    assert len(calls) == 1


def test_training_invalidates_the_cached_basis(small_dit):
    model = small_dit()
    with torch.no_grad():
        model(*inputs())
        randomise(model)
        cached = model(*inputs())
    torch.testing.assert_close(cached, model(*inputs()), rtol=1e-5, atol=1e-5)


# --- mistakes


@pytest.mark.parametrize("shape", [(2, 3, 8, 8), (2, 4, 7, 8), (2, 4, 8, 9)])
def test_images_must_fit_the_patches(small_dit, shape):
    with pytest.raises(ValueError, match=r"takes 4 channels and .* patch size 2") as error:
        small_dit()(torch.zeros(shape), torch.zeros(2), torch.zeros(2, dtype=torch.long))
    assert str(shape) in str(error.value)


def test_labels_must_be_given_where_there_are_classes(small_dit):
    x, t, y = inputs()
    with pytest.raises(ValueError, match=r"y is missing, but num_classes is 5: pass labels"):
        small_dit()(x, t)
    with pytest.raises(ValueError, match=r"y is given, but num_classes is 0: pass labels"):
        small_dit(num_classes=0)(x, t, y)


# --- layers as one


@pytest.mark.parametrize("autocast", [False, True], ids=["float32", "bfloat16"])
def test_layers_that_fold_as_one_compute_what_each_computes(small_dit, autocast, monkeypatch):
    model, results = small_dit(encoding="harope"), []
    # 16 tokens a sample are as many as channels.
    x, t, y = inputs(batch=4)
    for together in (True, False):
        if not together:
            monkeypatch.setattr(model_module, "folded_projections", lambda *_: None)
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            out = model(x, t, y)
        out.square().mean().backward()
        results.append([out, *(parameter.grad.clone() for parameter in model.parameters())])
    torch.testing.assert_close(*results)


def test_layers_fold_by_themselves_if_processes_exchange_gradients(small_dit, monkeypatch):
    attentions = [block.attn for block in small_dit(encoding="harope").layers]
    assert folded_projections(attentions, 64) is not None
    # Applying A to few tokens is cheaper.
    assert folded_projections(attentions, 4) is None
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert folded_projections(attentions, 64) is None
