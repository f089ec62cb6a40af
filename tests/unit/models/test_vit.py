import json
import warnings

import pytest
import torch
from safetensors.torch import save_file

from harope.models.vit import ViTConfig, create_vit, read_vit, vit_patch_size

SIZES = {"depth": 1, "width": 16, "num_heads": 2, "patch_size": 2}


def config(**changes) -> ViTConfig:
    values = {**SIZES, "in_channels": 1, "num_classes": 4, "input_size": (8, 8)} | changes
    return ViTConfig(**values)


def test_a_model_needs_a_number_of_classes():
    with pytest.raises(ValueError, match="num_classes is None: set it to the number of classes"):
        create_vit(config(num_classes=None))


@pytest.mark.parametrize("encoding", ["harope", "axial", "mixed", "none", "ape", "ape-learned"])
def test_every_encoding_starts_from_the_same_weights_and_runs_at_other_sizes(encoding):
    def weights(name):
        torch.manual_seed(0)
        return create_vit(config(encoding=name))

    plain, model = weights("none").state_dict(), weights(encoding)
    shared = plain.keys() & model.state_dict().keys()
    assert len(shared) == len(plain)
    assert all(torch.equal(plain[name], model.state_dict()[name]) for name in shared)
    assert model(torch.zeros(2, 1, 6, 12)).shape == (2, 4)


@pytest.mark.parametrize(
    ("encoding", "keep", "has"),
    [("axial", False, False), ("axial", True, True), ("none", False, False),
     ("ape-learned", False, True)],
)  # fmt: skip
def test_the_built_in_embedding_remains_on_request(encoding, keep, has):
    model = create_vit(config(encoding=encoding, keep_absolute=keep))
    assert (model.pos_embed is not None) == has


def test_without_positions_tokens_are_a_set():
    model = create_vit(config(encoding="none")).eval()
    x = torch.randn(1, 1, 8, 8)
    mirrored = x.unflatten(3, (4, 2)).flip(3).flatten(3)
    torch.testing.assert_close(model(mirrored), model(x))


def test_a_timm_model_is_created_by_name_with_its_options():
    model = create_vit(
        ViTConfig(name="vit_tiny_patch16_224", input_size=(32, 48), drop_path=0.2, num_classes=7)
    )
    assert (len(model.blocks), vit_patch_size(model)) == (12, 16)
    assert model.patch_embed.grid_size == (2, 3)
    assert model.blocks[-1].drop_path1.drop_prob == pytest.approx(0.2)
    assert model.head.out_features == 7


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"'vit_tiny_patch16_225' .* mean 'vit_tiny_patch16_224'"):
        create_vit(ViTConfig(name="vit_tiny_patch16_225", input_size=(32, 32)))


def test_either_a_name_or_all_sizes():
    with pytest.raises(ValueError, match=r"name None and depth 1, width 16, .* patch_size None"):
        config(patch_size=None)
    with pytest.raises(ValueError, match=r"name 'vit_tiny_patch16_224' and depth 1"):
        config(name="vit_tiny_patch16_224")
    with pytest.raises(ValueError, match=r"width 16 is not a multiple of num_heads 3"):
        config(num_heads=3)
    with pytest.raises(ValueError, match=r"encoding 'harop' is unknown: did you mean 'harope'"):
        config(encoding="harop")
    with pytest.raises(ValueError, match="takes no encoding_options"):
        config(encoding="ape-learned", encoding_options={"grid_sizes": [4, 4]})


def write(folder, values, model):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(values))
    save_file(model.state_dict(), folder / "ema.safetensors")
    return folder


def test_a_checkpoint_is_read_back_without_a_warning(tmp_path):
    model = create_vit(config()).eval()
    values = {**SIZES, "in_channels": 1, "num_classes": 4, "input_size": [8, 8]}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read, found = read_vit(write(tmp_path / "one", values, model))
    assert found == config()
    x = torch.randn(1, 1, 8, 8)
    assert torch.equal(read(x), model(x))


def test_a_checkpoint_of_another_model_and_an_empty_folder_are_refused(tmp_path):
    sized = SIZES | {"input_size": [8, 8]}
    for name, values in (("other", sized), ("unsized", SIZES), ("dit", SIZES | {"width": "a"})):
        folder = write(tmp_path / name, values, create_vit(config()))
        with pytest.raises(ValueError, match=rf"{name} is damaged or is not a checkpoint of a ViT"):
            read_vit(folder)
    with pytest.raises(ValueError, match="holds no checkpoint"):
        read_vit(tmp_path)
