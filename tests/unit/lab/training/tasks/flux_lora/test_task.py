"""The training task of LoRA in FLUX."""

from dataclasses import replace

import pytest
import torch

from harope.lab.data import (
    CaptionedLatentsDataConfig,
    CaptionedScenesDataConfig,
    encode_captioned,
    load_vae,
)
from harope.lab.data.captioned.folder import CaptionedFolderDataConfig, open_captioned_folder
from harope.lab.data.synthetic import make_captioned_folder
from harope.lab.recipes.tiny_flux import save_tiny_flux
from harope.lab.training import FluxLoraConfig
from harope.lab.training.tasks.flux_lora.task import FluxLora
from harope.models.flux import FluxModelConfig, pack, unpack
from harope.rope import encoding_parameters


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("flux-lora")
    make_captioned_folder(folder / "pictures", num=6, image_size=8)
    return FluxLoraConfig(
        recipe="test",
        model=FluxModelConfig(
            pretrained=str(save_tiny_flux(folder / "flux")), dtype="float32", rank=2
        ),
        data=CaptionedFolderDataConfig(root=str(folder / "pictures"), image_size=8),
        text_cache=str(folder / "text"),
        text_length=64,
        steps=10,
        batch_size=6,
        num_samples=2,
        sample_steps=1,
        seed=3,
    )


def make_task(config, **changes):
    torch.manual_seed(0)
    return FluxLora(replace(config, **changes), torch.device("cpu"))


@pytest.fixture(scope="module")
def task(config):
    return make_task(config)


@pytest.fixture(scope="module")
def batch(task):
    return task.source.samples(range(6))


def part(batch, places):
    return tuple(values[places] for values in batch)


def test_micro_batches_have_the_losses_of_the_complete_batch(task, batch):
    whole = task.losses(task.model, batch, 7, 0)["loss"]
    parts = [task.losses(task.model, part(batch, slice(i, i + 2)), 7, i)["loss"] for i in (0, 2, 4)]
    torch.testing.assert_close(whole, torch.cat(parts))


def test_steps_differ_and_a_step_is_reproducible(task, batch):
    first, again, other = (task.losses(task.model, batch, s, 0)["loss"] for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


def test_a_perfect_network_has_zero_loss(task, batch):
    latents = (batch[0] - 0.05) * 1.5  # of the identity VAE
    seen = {}

    def network(hidden_states, timestep, **others):
        seen.update(others)
        times = timestep[:, None, None, None]
        noise = (unpack(hidden_states, 8, 8) - (1 - times) * latents) / times
        return (pack(noise - latents),)

    assert task.losses(network, batch, 0, 0)["loss"].max() < 1e-5
    assert seen["guidance"] is None
    assert (seen["img_ids"].shape, seen["txt_ids"].shape) == ((16, 3), (64, 3))
    assert seen["img_ids"].dtype == torch.float32
    assert torch.equal(seen["encoder_hidden_states"], batch[1])
    assert torch.equal(seen["pooled_projections"], batch[2])


def test_a_distilled_model_receives_guidance_1(config, batch):
    task, seen = make_task(config), {}
    task.model.register_to_config(guidance_embeds=True)

    def network(hidden_states, guidance, **others):
        seen["guidance"] = guidance
        return (hidden_states,)

    task.losses(network, batch, 0, 0)
    assert torch.equal(seen["guidance"], torch.ones(6))


def test_weight_decay_applies_to_lora_and_not_to_the_encoding(task):
    decayed, kept = task.parameter_groups()
    names = {id(p): name for name, p in task.model.named_parameters()}
    assert all("lora" in names[id(p)] for p in decayed["params"])
    assert decayed["params"]
    trained = {id(p) for p in encoding_parameters(task.model) if p.requires_grad}
    assert {id(p) for p in kept["params"]} == trained != set()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_every_trained_parameter_gets_a_gradient(config, batch, dtype):
    task = make_task(
        config, model=replace(config.model, dtype=dtype), text_cache=cache(config, dtype)
    )
    loss = task.losses(task.model, batch, 0, 0)["loss"].mean()
    loss.backward()
    assert loss.isfinite()
    named = dict(task.model.named_parameters())
    assert {name for name, p in named.items() if p.grad is not None} == set(task.state_dict())


def cache(config, dtype):
    """The cache folder of a dtype."""
    return f"{config.text_cache}-{dtype}"


def test_gradient_checkpointing_changes_no_gradient(config, task, batch):
    other = make_task(config, gradient_checkpointing=True)
    other.model.train()
    other.load_state_dict(task.state_dict())
    for each in (task, other):
        each.losses(each.model, batch, 0, 0)["loss"].mean().backward()
    expected = {name: p.grad for name, p in task.model.named_parameters() if p.grad is not None}
    found = {name: p.grad for name, p in other.model.named_parameters() if p.grad is not None}
    torch.testing.assert_close(found, expected)


def test_latents_encoded_beforehand_give_the_losses_of_their_images(config, task, batch, tmp_path):
    vae = load_vae(config.model.pretrained, "vae")
    encode_captioned(open_captioned_folder(config.data, 0), vae, tmp_path)
    other = make_task(config, data=CaptionedLatentsDataConfig(root=str(tmp_path)))
    latents = other.source.samples(range(6))
    found = other.losses(task.model, latents, 0, 0)["loss"]
    torch.testing.assert_close(found, task.losses(task.model, batch, 0, 0)["loss"])


def test_a_checkpoint_holds_what_is_trained_and_no_other_can_be_loaded(task):
    state = task.state_dict()
    assert all("lora" in name or "harope" in name for name in state)
    with pytest.raises(ValueError, match="does not hold the same LoRA and encoding"):
        task.load_state_dict(dict(list(state.items())[1:]))


def test_sample_grids_are_written_unless_num_samples_is_0(config, tmp_path):
    task = make_task(config, prompts=("a red star",), num_samples=3)
    task.report(tmp_path / "some", 5)
    assert (tmp_path / "some/samples/step-00000005.png").is_file()
    make_task(config, num_samples=0).report(tmp_path / "none", 5)
    assert not (tmp_path / "none").exists()


def test_infinite_data_is_refused(config):
    with pytest.raises(ValueError, match="data is 'scenes-captions', which is infinite"):
        make_task(config, data=CaptionedScenesDataConfig())


def test_latents_of_another_vae_are_refused(config, tmp_path):
    vae = load_vae(config.model.pretrained, "vae")
    vae.register_to_config(shift_factor=0.1)
    encode_captioned(open_captioned_folder(config.data, 0), vae, tmp_path)
    with pytest.raises(ValueError, match=r"shift_factor 0\.1, but the pipeline's VAE has 1\.5 and"):
        make_task(config, data=CaptionedLatentsDataConfig(root=str(tmp_path)))


def test_text_embeddings_of_another_length_are_refused(config):
    with pytest.raises(
        ValueError, match=r"contains embeddings with encoder\.t5\.length 64, not 65"
    ):
        make_task(config, text_length=65)


def test_images_of_odd_sizes_are_refused(config):
    with pytest.raises(ValueError, match=r"latents of shape \(3, 7, 7\) do not fit"):
        make_task(config, data=replace(config.data, image_size=7))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("text_length", "text_length -1 must be at least 1"),
        ("sample_steps", "sample_steps -1 must be at least 1"),
        ("num_samples", "num_samples -1 must not be negative"),
    ],
)
def test_numbers_too_small_are_refused(config, name, message):
    with pytest.raises(ValueError, match=message):
        replace(config, **{name: -1})


def test_a_fraction_out_of_range_is_refused(config):
    with pytest.raises(ValueError, match=r"max_truncated 1\.5 must lie in \[0, 1\]"):
        replace(config, max_truncated=1.5)
