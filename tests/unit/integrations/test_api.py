"""Putting encodings into models, and taking them out again."""

import copy
import warnings

import pytest
import torch
from torch import nn

import harope
from harope.integrations import ModelChangedWarning
from harope.integrations.base import get_install_state
from support.host import CASES, dit, eva, flux, move_encodings, own, run_images, run_sd3, sd3, vit


def install_quietly(model, name, **options):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ModelChangedWarning)
        return harope.install(model, name, **options)


def positions_during(model, run):
    """Positions that the first attention sees."""
    state, seen = get_install_state(model), []
    handle = state.layers[0].attention.register_forward_pre_hook(
        lambda module, args: seen.append(state.current.positions)
    )
    run()
    handle.remove()
    return seen[0]


def grid_sizes(case):
    return (4, 4, 4) if case is CASES["flux"] else (4, 4)


@torch.no_grad()
def test_harope_at_its_start_leaves_a_rotary_model_as_it_is(case):
    model = case.make()
    if not case.rotates:
        with pytest.warns(ModelChangedWarning, match="turn by axial angles"):
            harope.install(model)
        return
    before = case.run(model)
    assert harope.install(model) is model
    torch.testing.assert_close(case.run(model), before, rtol=0, atol=1e-6)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("own")])
def test_the_basis_alone_leaves_every_model_as_it_is(name):
    case = CASES[name]
    model = case.make()
    before = case.run(model)
    harope.install(model, "harope-v1", frequencies="host")
    torch.testing.assert_close(case.run(model), before, rtol=0, atol=1e-6)
    move_encodings(model)
    assert (case.run(model) - before).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("encoding", "options"),
    [("harope", {}), ("harope", {"basis": "free"}), ("rethinking", {})],
    ids=str,
)
def test_a_basis_that_cancels_without_rotation_is_refused(encoding, options):
    model = CASES["vit"].make()
    with pytest.raises(ValueError, match="the matrices of queries and keys cancel"):
        harope.install(model, encoding, frequencies="host", **options)
    assert harope.integrations.base.get_install_state(model) is None


@torch.no_grad()
@pytest.mark.parametrize("encoding", harope.list_encodings())
def test_any_encoding_goes_in_and_comes_out_bit_for_bit(case, encoding):
    model = case.make()
    if encoding == "spiral" and case is CASES["flux"]:
        with pytest.raises(ValueError, match="only defined for the 2 axes of an image"):
            install_quietly(model, encoding)
        assert get_install_state(model) is None
        return
    before, weights = case.run(model), copy.deepcopy(model.state_dict())
    options = {"grid_sizes": grid_sizes(case)} if encoding == "ape-learned" else {}
    install_quietly(model, encoding, **options)
    move_encodings(model)
    assert case.run(model).isfinite().all()
    assert harope.remove(model) is model
    assert torch.equal(case.run(model), before)
    assert list(model.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in model.state_dict().items())
    assert get_install_state(model) is None


@pytest.mark.parametrize(("encoding", "theta"), [("dinov3", 100.0), ("partial", 10000.0)])
def test_axial_encodings_of_other_models_do_not_become_the_rotation_of_this_one(encoding, theta):
    model = CASES["eva"].make()
    install_quietly(model, encoding)
    (installed, *_) = harope.get_encodings(model).values()
    alone = harope.create_encoding(
        encoding, num_heads=installed.num_heads, head_dim=installed.head_dim, theta=theta
    )
    positions = harope.grid_positions(3, 4)
    assert torch.equal(installed.angles(positions), alone.angles(positions))


@torch.no_grad()
def test_it_says_when_the_output_changes_and_only_then(case):
    for encoding in ("none", "ape", "axial", "mixed", "harope"):
        model = case.make()
        before = case.run(model)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            harope.install(model, encoding)
        changed = not torch.allclose(case.run(model), before, rtol=0, atol=1e-6)
        said = [str(warning.message) for warning in caught]
        assert bool(said) == changed, (encoding, said)


def test_parameters_live_at_the_attentions(case):
    model = case.make()
    before = set(model.state_dict())
    install_quietly(model, "harope")
    names = set(model.state_dict()) - before
    layers = get_install_state(model).layers
    assert names == {
        f"{layer.name}.harope.basis.{part}"
        for layer in layers
        for part in ("skew_u", "skew_v", "raw_scale")
    }


def test_all_tokens_meet_the_basis_and_those_with_positions_turn():
    """Scores of the class token with itself change by the basis alone."""
    model = vit()
    install_quietly(model, "harope")
    seen = []
    attention = model.blocks[0].attn
    handle = attention.q_norm.register_forward_hook(lambda module, args, out: seen.append(out))
    run_images(model)
    handle.remove()
    harope.remove(model)
    handle = attention.q_norm.register_forward_hook(lambda module, args, out: seen.append(out))
    run_images(model)
    turned, plain = seen
    assert torch.equal(turned[:, :, :2], plain[:, :, :2])  # the class token, and place (0, 0)
    assert (turned[:, :, 2:] - plain[:, :, 2:]).abs().amax(dim=-1).min() > 1e-4


def test_positions_of_a_wide_image_are_rows_first():
    model = install_quietly(sd3(), "harope")
    positions = positions_during(model, lambda: run_sd3(model))
    assert positions.tolist() == harope.grid_positions(4, 6).tolist()


def test_text_of_flux_stands_at_the_origin_before_the_image():
    model = harope.install(flux())
    positions = positions_during(model, lambda: CASES["flux"].run(model))
    assert positions.tolist() == harope.text_image_positions(5, 3, 4).tolist()


def test_own_frequencies_on_flux_take_its_axes_and_give_its_rotation_again():
    model = flux()
    before = CASES["flux"].run(model)
    install_quietly(model, "harope", frequencies="axial")
    assert model.transformer_blocks[0].attn.harope.frequencies.axes_dim == (4, 8, 12)
    torch.testing.assert_close(CASES["flux"].run(model), before, rtol=0, atol=1e-5)


def test_sd35_has_an_encoding_in_its_second_attention_too():
    model = install_quietly(sd3(qk_norm="rms_norm", dual_attention_layers=(0, 1)), "harope")
    names = [layer.name.rpartition(".")[2] for layer in get_install_state(model).layers]
    assert names == ["attn", "attn2", "attn", "attn2", "attn"]


def test_without_its_own_embedding_only_the_encoding_tells_places():
    """Tokens of a model without positions are a set; with axial ones they are not."""
    swapped = torch.randn(1, 3, 32, 32)
    mirrored = swapped.unflatten(3, (4, 8)).flip(3).flatten(3)
    for encoding, same in (("none", True), ("axial", False)):
        model = install_quietly(vit(global_pool="avg"), encoding, keep_absolute=False)
        with torch.no_grad():
            outs = model(swapped), model(mirrored)
        assert torch.allclose(*outs, atol=1e-5) == same


def test_deit_can_do_without_its_own_embedding():
    model = vit("deit_tiny_distilled_patch16_224")
    before = run_images(model)
    install_quietly(model, "axial", keep_absolute=False)
    assert "pos_embed" not in model.state_dict()
    run_images(model)
    harope.remove(model)
    assert torch.equal(run_images(model), before)


def test_other_resolutions_are_read_where_the_model_takes_them():
    model = install_quietly(vit(dynamic_img_size=True), "harope")
    positions = positions_during(model, lambda: model(torch.randn(1, 3, 48, 24)))
    assert positions.tolist() == [[0, 0], *harope.grid_positions(6, 3).tolist()]


def test_a_copy_has_an_encoding_of_its_own(case):
    model = install_quietly(case.make(), "harope")
    before = case.run(model)
    before.square().mean().backward()
    twin = copy.deepcopy(model)
    move_encodings(twin)
    with torch.no_grad():
        assert not torch.equal(case.run(twin), before)
        assert torch.equal(case.run(model), before)
        harope.remove(twin)
    assert get_install_state(model) is not None


def test_weight_decay_spares_encodings_as_timm_asks_for_it():
    model = install_quietly(vit(), "harope")
    exempt = model.no_weight_decay()
    assert {"pos_embed", "cls_token", "blocks.1.attn.harope.basis.raw_scale"} <= exempt
    twin = copy.deepcopy(model)
    harope.remove(model)
    assert model.no_weight_decay() == {"pos_embed", "cls_token", "reg_token", "dist_token"}
    assert twin.no_weight_decay() == exempt


def test_a_second_encoding_is_refused():
    model = harope.install(flux())
    with pytest.raises(ValueError, match=r"holds an encoding already \(harope\): call harope.rem"):
        harope.install(model, "axial")


def test_an_unknown_model_is_told_the_known_ones():
    with pytest.raises(
        ValueError, match=r"Linear is not a model that harope knows .*SD3.*Integration"
    ):
        harope.install(nn.Linear(2, 2))


def test_there_is_nothing_to_remove_from_a_plain_model():
    with pytest.raises(ValueError, match="holds no encoding"):
        harope.remove(vit())


def test_a_model_without_an_embedding_cannot_give_one_up():
    with pytest.raises(ValueError, match=r"keep_absolute is False but .*Flux.* no absolute"):
        harope.install(flux(), keep_absolute=False)


def test_patch_dropout_hides_positions():
    model = vit(patch_drop_rate=0.5)
    with pytest.raises(ValueError, match=r"patch_drop_rate is 0.5 but frequencies 'axial'"):
        harope.install(model)
    harope.install(model, "harope-v1", frequencies="host")


def test_attentions_of_another_kind_are_refused():
    with pytest.raises(ValueError, match=r"blocks.0 is a .*whose attention is not timm's"):
        harope.install(vit(attn_layer="diff"))


@pytest.mark.parametrize("make", [dit, sd3])
def test_fused_projections_are_refused(make):
    model = make()
    for block in model.transformer_blocks:
        (block.attn1 if make is dit else block.attn).fuse_projections(fuse=True)
    with pytest.raises(ValueError, match="has fused projections"):
        harope.install(model)


@pytest.mark.parametrize("name", ["sd3", "flux"])
def test_a_processor_set_later_is_not_overlooked(name):
    case = CASES[name]
    model = install_quietly(case.make(), "harope", frequencies="axial")
    attention = model.transformer_blocks[1].attn
    attention.set_processor(type(case.make().transformer_blocks[0].attn.processor)())
    with pytest.raises(ValueError, match=r"transformer_blocks.1.attn has got the processor"):
        case.run(model)


def test_projections_fused_later_are_not_overlooked():
    model = harope.install(sd3(), "harope-v1", frequencies="host")
    model.fuse_qkv_projections()
    with pytest.raises(ValueError, match=r"has got the processor FusedJointAttnProcessor2_0, so"):
        run_sd3(model)
    model.unfuse_qkv_projections()
    harope.remove(model)
    run_sd3(model)


def test_a_processor_of_others_is_not_replaced():
    class Other:
        def __call__(self, attn, hidden_states, **rest):
            return hidden_states

    model = flux()
    model.transformer_blocks[0].attn.processor = Other()
    with pytest.raises(ValueError, match="has the processor Other, which the encoding's"):
        harope.install(model)


def test_fused_projections_of_flux_keep_working():
    model = harope.install(flux())
    move_encodings(model)
    before = CASES["flux"].run(model)
    for layer in get_install_state(model).layers:
        layer.attention.fuse_projections()
    torch.testing.assert_close(CASES["flux"].run(model), before, rtol=1e-5, atol=1e-5)


def test_an_attention_called_by_itself_says_that_it_knows_no_positions():
    model = install_quietly(vit(), "harope")
    with pytest.raises(ValueError, match="called outside its model"):
        model.blocks[0].attn(torch.randn(1, 17, 32))


def test_our_dit_keeps_its_angles_and_says_so_in_its_configuration():
    model = harope.install(own("axial", theta=100.0), "harope", basis="free")
    parts = model.config.encoding_parts
    assert (parts.basis, parts.theta) == ("free", 100.0)
    assert harope.remove(model).config.encoding == "axial"


def test_our_dit_with_an_installed_encoding_is_saved_and_read(tmp_path):
    model = install_quietly(own("axial"), "ape-learned", grid_sizes=(4, 6))
    model.save_pretrained(tmp_path)
    again = harope.DiT.from_pretrained(tmp_path)
    case = CASES["own-axial"]
    torch.testing.assert_close(case.run(again), case.run(model))


def test_our_dit_has_no_rotation_to_leave_to_it():
    with pytest.raises(ValueError, match="frequencies 'host' leaves the rotation to the model"):
        harope.install(own("ape"), frequencies="host")


def test_the_basis_alone_is_an_encoding():
    encoding = harope.create_encoding("harope", num_heads=2, head_dim=8, frequencies="host")
    q = torch.randn(1, 2, 3, 8)
    out = encoding(q, q, torch.zeros(3, 2))
    torch.testing.assert_close(out, (q, q))


def test_a_dit_of_ours_does_not_take_it():
    with pytest.raises(
        ValueError,
        match="rotation, but a DiT has none",
    ):
        own("harope", frequencies="host")


def test_eva_rotates_by_the_encoding_where_it_is_asked_to():
    model = eva()
    with pytest.warns(ModelChangedWarning, match=r"turn by mixed angles, its own rotation is off"):
        harope.install(model, "mixed")
    assert model.rope is None
    harope.remove(model)
    assert model.rope is not None
