"""Encodings on weights that other libraries changed: right, or refused with a reason."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torchao.quantization import Int8WeightOnlyConfig, quantize_

import harope
from harope.integrations import NotFoldedWarning
from harope.integrations.attention import folds_basis
from support.host import move_encodings, normal, run_images, vit

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")


class Quantized(torch.Tensor):
    """A tensor subclass, as torchao's weights are."""


def installed(**options):
    model = harope.install(vit(), "harope", **options)
    move_encodings(model)
    return model


def images():
    # Tokens enough to fold A into the weights.
    return normal(8, 3, 32, 32)


@torch.no_grad()
def test_a_quantized_weight_leaves_the_matrices_to_the_tokens_and_does_not_fold():
    model = installed()
    before = model(images())
    assert folds_basis(model.blocks[0].attn, 1000)
    for block in model.blocks:
        weight = block.attn.qkv.weight.detach().as_subclass(Quantized)
        block.attn.qkv.weight = nn.Parameter(weight, requires_grad=False)
    assert not folds_basis(model.blocks[0].attn, 1000)
    torch.testing.assert_close(model(images()).as_subclass(torch.Tensor), before)
    with pytest.raises(ValueError, match=r"qkv is not a bare Linear.* is a Quantized .*before qu"):
        harope.fold(model)


@torch.no_grad()
@pytest.mark.parametrize("batch", [1, 16])
@pytest.mark.parametrize("qk_norm", [False, True])
def test_int8_weights_of_torchao_give_the_output_of_the_rounded_weights(qk_norm, batch):
    """Of 1 image the 17 tokens are too few to fold A into the weights, of 16 they are enough."""
    model, rounded = (harope.install(vit(qk_norm=qk_norm), "harope") for _ in range(2))
    for each in (model, rounded):
        move_encodings(each)
    x = normal(batch, 3, 32, 32)
    before = model(x)
    quantize_(model, Int8WeightOnlyConfig())
    for module, twin in zip(model.modules(), rounded.modules(), strict=True):
        if isinstance(module, nn.Linear):
            assert type(module.weight).__name__ == "Int8Tensor"
            twin.weight.copy_(module.weight.dequantize())
    assert folds_basis(rounded.blocks[0].attn, 17 * batch) == (batch == 16 and not qk_norm)
    torch.testing.assert_close(model(x), rounded(x), rtol=1e-4, atol=1e-5)
    assert 0 < (model(x) - before).norm() < 0.03 * before.norm()


def test_int8_weights_of_torchao_are_not_folded_and_come_out():
    plain, model = vit(), installed()
    for each in (plain, model):
        quantize_(each, Int8WeightOnlyConfig())
    with pytest.raises(ValueError, match=r"qkv is not a bare Linear.* is a Int8Tensor .*before qu"):
        harope.fold(model)
    with torch.no_grad():
        harope.remove(model)
        assert torch.equal(model(images()), plain(images()))


def test_behind_qk_norm_nothing_of_int8_weights_would_change_and_fold_says_so():
    model = harope.install(vit(qk_norm=True), "harope")
    move_encodings(model)
    quantize_(model, Int8WeightOnlyConfig())
    with torch.no_grad():
        before = model(images())
        with pytest.warns(NotFoldedWarning, match="QK-norm stands"):
            harope.fold(model)
        assert torch.equal(model(images()), before)


def test_a_model_folded_before_quantizing_it_gives_nearly_the_same_output():
    model = installed()
    with torch.no_grad():
        before = model(images())
        harope.fold(model)
        quantize_(model, Int8WeightOnlyConfig())
        assert (model(images()) - before).norm() < 0.03 * before.norm()


@torch.no_grad()
def test_a_parametrized_projection_runs_is_not_folded_and_comes_out():
    plain = vit()
    before = plain(images())
    model = installed()
    moved = model(images())
    for block in model.blocks:
        parametrizations.weight_norm(block.attn.qkv)
    torch.testing.assert_close(model(images()), moved, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="remove the parametrization of its weight first"):
        harope.fold(model)
    harope.remove(model)
    for block in model.blocks:
        parametrize.remove_parametrizations(block.attn.qkv, "weight")
        assert type(block.attn.qkv) is nn.Linear
    torch.testing.assert_close(model(images()), before, rtol=1e-4, atol=1e-5)


@torch.no_grad()
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("folded", [True, False])
def test_dynamic_quantization_reaches_the_projection(folded):
    model = installed().eval()
    before = model(images())
    if folded:
        harope.fold(model)
    quantized = torch.ao.quantization.quantize_dynamic(model, {nn.Linear}, dtype=torch.qint8)
    attention = quantized.blocks[0].attn
    assert type(attention.qkv) is type(attention.proj) is torch.ao.nn.quantized.dynamic.Linear
    assert (quantized(images()) - before).norm() < 0.1 * before.norm()


@pytest.mark.parametrize("grad", [True, False])
def test_offloaded_parameters_run_and_are_not_saved_or_folded(grad, tmp_path):
    accelerate = pytest.importorskip("accelerate")
    model = installed().eval()
    with torch.no_grad():
        before = model(images())
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(model(images()).detach(), before, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="is offloaded"):
        harope.save_encoding(model, tmp_path)
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="before offloading"):
        harope.fold(model)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_sharded_parameters_are_saved_and_loaded(tmp_path):
    from torch import distributed
    from torch.distributed.fsdp import fully_shard

    distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        model, plain = installed(), installed()
        expected = harope.get_encodings(plain)["blocks.0.attn"].basis.raw_scale
        other = harope.install(vit(), "harope")
        for each in (model, other):
            for block in each.blocks:
                fully_shard(block)
            fully_shard(each)
        model(images()).sum().backward()
        with pytest.raises(ValueError, match="its weight is sharded: fold the model before"):
            harope.fold(model)
        path = harope.save_encoding(model, tmp_path / "saved")
        harope.load_encoding(other, path)
        loaded = harope.get_encodings(other)["blocks.0.attn"].basis.raw_scale.full_tensor()
        assert torch.equal(loaded, expected)
        torch.testing.assert_close(run_images(other), run_images(plain), rtol=1e-4, atol=1e-5)
    finally:
        distributed.destroy_process_group()
