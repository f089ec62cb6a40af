import pytest
import torch
from diffusers import FluxPipeline

from harope.lab.recipes.tiny_flux import save_tiny_flux
from harope.models.flux import FluxModelConfig, create_flux, pack, unpack
from harope.rope import encoding_parameters


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_tiny_flux(tmp_path_factory.mktemp("flux"))


def create(folder, **options):
    return create_flux(FluxModelConfig(pretrained=str(folder), rank=2, **options))


def trained(model):
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def test_tokens_are_those_of_the_pipeline():
    latents = torch.randn(2, 3, 4, 6)
    tokens = pack(latents)
    assert torch.equal(tokens, FluxPipeline._pack_latents(latents, 2, 3, 4, 6))
    assert torch.equal(unpack(tokens, 4, 6), latents)


def test_lora_and_encoding_train_in_float32_and_all_else_is_frozen_in_its_dtype(folder):
    model = create(folder)
    names = list(trained(model))
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    assert all("lora" in name or ".harope.modules_to_save.default." in name for name in names)
    assert any("harope" in name for name in names)
    assert any("ff_context.net.2.lora_A" in name for name in names)
    assert model.x_embedder.weight.dtype == torch.bfloat16


def test_the_control_trains_lora_alone_and_starts_as_the_same_model(folder):
    model, plain = create(folder, encoding="axial"), create(folder)
    assert not encoding_parameters(model)
    lora = {name: p for name, p in trained(plain).items() if "lora" in name}
    assert trained(model).keys() == lora.keys()


def test_the_encoding_is_the_requested_one(folder):
    model = create(folder, encoding="mixed", encoding_options={"theta": 100.0})
    assert any("wave_vectors" in name for name in trained(model))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rank": 0}, "rank 0 and alpha 32 must be positive"),
        ({"target_modules": ()}, "target_modules is empty"),
        ({"encoding": "harop"}, "did you mean 'harope'"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        FluxModelConfig(**options)
