"""State of a forward: positions, tables and matrices belong to one forward."""

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

import harope
from harope.integrations.base import get_install_state
from support.host import CASES, eva, flux, flux_inputs, move_encodings, normal, own, sd3, vit

pytestmark = pytest.mark.filterwarnings("ignore::harope.integrations.ModelChangedWarning")

SIZES = [(32, 32), (48, 24), (24, 48), (64, 16)]


def installed(make=vit, name="harope", **options):
    model = harope.install(make(), name, **options).train()
    move_encodings(model)
    return model


def dynamic_vit():
    return vit(dynamic_img_size=True)


def dynamic_eva():
    return eva(dynamic_img_size=True, use_abs_pos_emb=False)


def crops():
    return [normal(2, 3, height, width, seed=height) for height, width in SIZES]


def gradients(model, losses):
    """Gradients after one backward of several forwards."""
    model.zero_grad()
    sum(losses).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def assert_same(ours, expected):
    assert ours.keys() == expected.keys()
    for name, grad in expected.items():
        torch.testing.assert_close(ours[name], grad, rtol=1e-3, atol=1e-5)


@pytest.fixture(params=[True, False], ids=["reentrant", "other"])
def reentrant(request):
    from timm.layers import set_reentrant_ckpt

    set_reentrant_ckpt(request.param)
    yield request.param
    set_reentrant_ckpt(False)


@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad")
@pytest.mark.parametrize("name", ["harope", "mixed"])
@pytest.mark.parametrize("make", [dynamic_vit, dynamic_eva])
def test_several_sizes_before_one_backward_under_checkpointing(make, name, reentrant):
    if reentrant and make is dynamic_eva:
        # timm passes keyword arguments, which reentrant checkpointing does not take.
        make = dynamic_vit
    model = installed(make, name)
    expected = gradients(model, [model(x).square().sum() for x in crops()])
    model.set_grad_checkpointing()
    assert_same(gradients(model, [model(x).square().sum() for x in crops()]), expected)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_two_sizes_of_diffusers_before_one_backward_under_checkpointing(name, reentrant):
    model = installed(CASES[name].make, frequencies="axial")

    def run(height, width):
        if name == "sd3":
            latents, text, pooled = normal(2, 4, height, width), normal(2, 5, 12), normal(2, 8)
            return model(latents, text, pooled, torch.tensor([3.0, 500.0])).sample
        ids = harope.text_image_positions(5, height, width)
        inputs = {"hidden_states": normal(2, height * width, 4)}
        return model(**{**flux_inputs(), **inputs, "img_ids": ids[5:], "txt_ids": ids[:5]}).sample

    def losses():
        return [run(*size).square().sum() for size in ((8, 12), (12, 8))]

    expected = gradients(model, losses())
    model.enable_gradient_checkpointing(
        lambda block, *args: checkpoint(block, *args, use_reentrant=reentrant)
    )
    assert_same(gradients(model, losses()), expected)


def test_another_image_embedded_before_backward_changes_nothing():
    model = installed(dynamic_vit)
    model.set_grad_checkpointing()
    results = []
    for embeds in (False, True):
        loss = model(crops()[1]).square().sum()
        if embeds:
            model.patch_embed(crops()[2])
        results.append(gradients(model, [loss]))
    assert_same(*results)


@pytest.mark.parametrize("part", ["blocks", "blocks.0", "blocks.1.attn"])
def test_a_checkpoint_may_hold_all_blocks_or_an_attention_alone(part):
    from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper

    model = installed(dynamic_vit)
    images = crops()[1:3]
    expected = gradients(model, [model(x).square().sum() for x in images])
    parent, _, name = part.rpartition(".")
    setattr(model.get_submodule(parent), name, checkpoint_wrapper(model.get_submodule(part)))
    found = gradients(model, [model(x).square().sum() for x in images])
    assert_same(
        {n.replace("_checkpoint_wrapped_module.", ""): g for n, g in found.items()}, expected
    )


@pytest.mark.parametrize("grad", [True, False])
def test_nothing_is_left_when_the_forward_ends(case, grad):
    model = harope.install(case.make(), "harope")
    state = get_install_state(model)
    with torch.set_grad_enabled(grad):
        case.run(model)
    assert state.current is None
    assert copy.deepcopy(state).current is None


def test_nothing_is_left_after_an_exception():
    model = installed()
    handle = model.blocks[1].mlp.register_forward_hook(lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        model(normal(2, 3, 32, 32))
    handle.remove()
    assert get_install_state(model).current is None
    with pytest.raises(ValueError, match="called outside its model"):
        model.blocks[0].attn(normal(1, 17, 32))


def test_an_attention_alone_says_what_to_do_also_after_a_forward():
    model = installed()
    model(normal(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"call the whole model, or .* harope.use_positions"):
        model.blocks[0].attn(normal(1, 17, 32))


def test_without_positions_an_attention_alone_runs():
    installed(name="harope-v1", frequencies="host").blocks[0].attn(normal(1, 17, 32))


@torch.no_grad()
def test_a_model_run_in_parts_takes_the_positions_of_its_image():
    model = installed(dynamic_vit).eval()
    images = crops()[1]
    whole = model(images)
    assert torch.equal(model.forward_head(model.forward_features(images)), whole)
    for _ in range(2):
        tokens = model._pos_embed(model.patch_embed(images))
        for block in model.blocks:
            tokens = block(tokens)
        assert torch.equal(model.forward_head(model.norm(tokens)), whole)
    assert get_install_state(model).current is None


def test_two_images_embedded_before_the_blocks_are_refused():
    model = installed(dynamic_vit)
    tokens = model._pos_embed(model.patch_embed(crops()[1]))
    model.patch_embed(crops()[2])
    with pytest.raises(ValueError, match="two images of different sizes were embedded"):
        model.blocks(tokens)


@torch.no_grad()
def test_positions_can_be_given(case):
    model = harope.install(case.make(), "harope", **angles(case)).eval()
    move_encodings(model)
    before = case.run(model)
    positions = natural_positions(case)
    with harope.use_positions(model, positions):
        torch.testing.assert_close(case.run(model), before, rtol=1e-5, atol=1e-5)
    with harope.use_positions(model, positions * 2.5):
        assert not torch.allclose(case.run(model), before, atol=1e-4)
    torch.testing.assert_close(case.run(model), before, rtol=0, atol=0)


def angles(case):
    return {} if case is CASES["own-axial"] else {"frequencies": "axial"}


def natural_positions(case):
    if case is CASES["flux"]:
        return harope.text_image_positions(5, 3, 4)
    wide = case in (CASES["sd3"], CASES["sd35"], CASES["own-axial"], CASES["own-ape"])
    return harope.grid_positions(4, 6 if wide else 4)


@torch.no_grad()
def test_every_sample_may_have_positions_of_its_own():
    model = installed().eval()
    images = normal(2, 3, 32, 32)
    grid = harope.grid_positions(4, 4)
    with harope.use_positions(model, torch.stack([grid, grid * 3 + 1])):
        both = model(images)
    for index, positions in enumerate((grid, grid * 3 + 1)):
        with harope.use_positions(model, positions):
            torch.testing.assert_close(both[index], model(images)[index], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_an_attention_alone_takes_given_positions():
    model = installed()
    tokens = normal(1, 17, 32)
    positions = torch.cat([torch.zeros(1, 2), harope.grid_positions(4, 4)])
    with harope.use_positions(model, positions):
        model.blocks[0].attn(tokens)


@pytest.mark.parametrize("make", [vit, sd3, flux, own])
def test_positions_of_another_number_of_tokens_are_refused(make):
    case = next(case for case in CASES.values() if case.make is make or make is own)
    case = CASES["own-axial"] if make is own else case
    model = installed(case.make, **angles(case))
    with (
        harope.use_positions(model, torch.zeros(7, 3 if make is flux else 2)),
        pytest.raises(ValueError, match=r"positions .*: pass (one row|positions \(y, x\))"),
    ):
        case.run(model)
    assert get_install_state(model).current is None


def test_positions_that_cannot_be_used_are_refused():
    model = installed()
    for wrong in (torch.zeros(16, 3), torch.zeros(16)):
        with pytest.raises(ValueError, match="positions must be a tensor"):
            harope.use_positions(model, wrong).__enter__()
    with pytest.raises(ValueError, match=r"has no encoding of harope: call harope.install"):
        harope.use_positions(vit(), torch.zeros(16, 2)).__enter__()
    basis_alone = installed(name="harope-v1", frequencies="host")
    with pytest.raises(ValueError, match="uses no positions in this model"):
        harope.use_positions(basis_alone, torch.zeros(16, 2)).__enter__()


def test_encodings_by_the_path_of_their_attention(case):
    model = harope.install(case.make(), "harope")
    encodings = harope.get_encodings(model)
    assert all(model.get_submodule(f"{name}.harope") is e for name, e in encodings.items())
    assert len(encodings) >= 2


def test_a_dit_has_encodings_without_installing_and_a_plain_model_has_none():
    assert list(harope.get_encodings(own("harope"))) == ["blocks.0.attn", "blocks.1.attn"]
    with pytest.raises(ValueError, match=r"has no encoding of harope: call harope.install"):
        harope.get_encodings(vit())


@torch.no_grad()
def test_a_configuration_installs_what_its_preset_does(tmp_path):
    config = harope.EncodingConfig(frequencies="axial", basis="svd", theta=50.0)
    model, other = harope.install(vit(), config), harope.install(vit(), "harope", theta=50.0)
    images = normal(2, 3, 32, 32)
    assert torch.equal(model(images), other(images))
    harope.save_encoding(model, tmp_path)
    assert torch.equal(harope.load_encoding(vit(), tmp_path)(images), model(images))
    with pytest.raises(ValueError, match="in addition to an EncodingConfig"):
        harope.install(vit(), config, theta=3.0)
