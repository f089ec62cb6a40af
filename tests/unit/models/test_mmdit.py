import json

import pytest
import torch
from safetensors.torch import save_file

from harope.integrations import ModelChangedWarning
from harope.lab.recipes.tiny_sd3 import save_tiny_sd3
from harope.models.mmdit import (
    MMDiTConfig,
    create_mmdit,
    mmdit_to_dict,
    read_mmdit,
    run_mmdit,
)
from support.mmdit import SIZES, mmdit_config

NAMES = ["harope", "axial", "mixed", "none", "ape", "ape-learned"]


def create(**changes):
    torch.manual_seed(0)
    return create_mmdit(mmdit_config(**changes))


def randomize(model):
    """Move the weights away from their initial values, where the output is 0."""
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def call(model, x, seed=1):
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(1, 3, 8, generator=generator).expand(len(x), -1, -1)
    return run_mmdit(model, x, torch.full((len(x),), 300.0), states, states.mean(dim=1))


@pytest.mark.parametrize("encoding", NAMES)
def test_every_encoding_starts_from_the_same_weights(encoding):
    grid = {"encoding_options": {"grid_sizes": [4, 4]}} if encoding == "ape-learned" else {}
    plain = dict(create(encoding="none").named_parameters())
    own = dict(create(encoding=encoding, **grid).named_parameters())
    assert plain.keys() <= own.keys()
    assert all(torch.equal(plain[name], own[name]) for name in plain)


def test_a_new_model_returns_zeros_and_its_blocks_are_the_identity():
    model, seen = create(), []
    for block in model.transformer_blocks:
        block.register_forward_hook(
            lambda block, args, kwargs, output: seen.append((kwargs["hidden_states"], output[1])),
            with_kwargs=True,
        )
    assert not call(model, torch.randn(2, 3, 8, 8)).any()
    assert len(seen) == 2
    assert all(torch.equal(before, after) for before, after in seen)


@pytest.mark.parametrize("encoding", ["harope", "none", "ape"])
def test_other_sizes_run(encoding):
    assert call(create(encoding=encoding), torch.randn(2, 3, 12, 6)).shape == (2, 3, 12, 6)


def test_without_positions_tokens_are_a_set():
    model = randomize(create(encoding="none"))
    x = torch.randn(1, 3, 8, 8)

    def mirror(x):
        return x.unflatten(3, (4, 2)).flip(3).flatten(3)

    torch.testing.assert_close(call(model, mirror(x)), mirror(call(model, x)))


@pytest.mark.parametrize("encoding", ["ape", "axial", "harope"])
def test_with_positions_they_are_not(encoding):
    model = randomize(create(encoding=encoding))
    x = torch.randn(1, 3, 8, 8)
    mirrored = call(model, x.unflatten(3, (4, 2)).flip(3).flatten(3))
    assert not torch.allclose(mirrored, call(model, x).unflatten(3, (4, 2)).flip(3).flatten(3))


@pytest.mark.parametrize(
    ("changes", "keeps"),
    [
        ({}, False),
        ({"encoding": "ape"}, True),
        ({"keep_absolute": True}, True),
        ({"encoding": "ape", "keep_absolute": False}, False),
    ],
)
def test_the_built_in_sines_remain_on_request(changes, keeps):
    assert (create(**changes).pos_embed.pos_embed is not None) == keeps


def test_norms_and_second_attentions_are_those_of_sd35():
    model = create(qk_norm="rms_norm", dual_attention_layers=(1,))
    blocks = model.transformer_blocks
    assert [block.attn2 is None for block in blocks] == [True, False]
    assert blocks[1].attn2.harope is not blocks[1].attn.harope
    assert blocks[0].attn.norm_q is not None


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory):
    return save_tiny_sd3(tmp_path_factory.mktemp("hub") / "sd3")


def test_a_pretrained_model_with_a_basis_alone_begins_as_it_was(pipeline):
    from diffusers import SD3Transformer2DModel

    plain = SD3Transformer2DModel.from_pretrained(pipeline / "transformer").eval()
    config = MMDiTConfig(
        pretrained=str(pipeline), encoding="harope-v1", encoding_options={"frequencies": "host"}
    )
    model = create_mmdit(config).eval()
    inputs = torch.randn(1, 4, 8, 8), torch.tensor([9.0]), torch.randn(1, 5, 32), torch.randn(1, 32)
    torch.testing.assert_close(run_mmdit(model, *inputs), run_mmdit(plain, *inputs))


def test_a_warning_is_raised_if_the_output_of_a_pretrained_model_changes(pipeline):
    config = MMDiTConfig(pretrained=str(pipeline / "transformer"), subfolder="")
    with pytest.warns(ModelChangedWarning, match="turn by axial angles"):
        model = create_mmdit(config)
    assert model.pos_embed.pos_embed is not None


@pytest.mark.parametrize("encoding", ["harope-v1", "ape"])
def test_a_checkpoint_is_read_without_the_model_it_came_from(pipeline, tmp_path, encoding):
    options = {"frequencies": "host"} if encoding == "harope-v1" else {}
    config = MMDiTConfig(
        pretrained=str(pipeline), input_size=(6, 6), encoding=encoding, encoding_options=options
    )
    model = create_mmdit(config)
    # A table that its configuration does not give, as some pretrained models have.
    model.pos_embed.pos_embed.mul_(2)
    averages = {name: p.detach() + 1 for name, p in model.named_parameters()}
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    save_file(averages, tmp_path / "ema.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(mmdit_to_dict(config, model)))
    found, description = read_mmdit(tmp_path)
    assert description["input_size"] == [6, 6]
    assert not found.training
    assert torch.equal(found.pos_embed.pos_embed, model.pos_embed.pos_embed)
    assert all(torch.equal(p, averages[name]) for name, p in found.named_parameters())
    last = dict(read_mmdit(tmp_path, weights="model")[0].named_parameters())
    assert all(torch.equal(p, last[name]) for name, p in model.named_parameters())


def test_a_folder_without_a_checkpoint_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"holds no checkpoint: expected ema.safetensors"):
        read_mmdit(tmp_path)
    save_file({"a": torch.zeros(1)}, tmp_path / "ema.safetensors")
    (tmp_path / "config.json").write_text("{}")
    message = "is not a checkpoint of an MMDiT: config.json has no field 'transformer'"
    with pytest.raises(ValueError, match=message):
        read_mmdit(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"depth": None}, "give either a pretrained model or all seven sizes"),
        ({"pretrained": "a"}, "give either a pretrained model or all seven sizes"),
        ({"head_dim": 0}, "head_dim 0 must be at least 1"),
        ({"dual_attention_layers": (2,)}, r"\(2,\) are not all below the depth 2"),
        ({"encoding": "harop"}, "'harop' is unknown: did you mean 'harope'"),
    ],
)
def test_inconsistent_sizes_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        MMDiTConfig(**SIZES | changes)
