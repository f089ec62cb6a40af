"""What is counted on shapes is what real tensors have."""

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import nn

import harope
from harope.lab.bench.memory import peak_bytes
from harope.lab.plan.memory import Layout, memory_parts
from harope.lab.plan.models import planned_model
from harope.lab.plan.trace import count_saved
from harope.lab.plan.workload import Linear, Workload
from harope.lab.recipes import get_recipe
from harope.lab.training.serialization import override
from harope.models.dit import DIT_SIZES
from harope.models.vit import ViTConfig

SMALL = {"model.depth": "2", "model.width": "128", "model.num_heads": "4", "precision": "no"}
IMAGES = 6


@cache
def dit_workload(size: str, encoding: str, optimizer: str = "adamw") -> Workload:
    recipe = get_recipe("imagenet-dit")
    model = replace(DIT_SIZES[size], encoding=encoding)
    config = override(replace(recipe.config(), model=model), {"optimizer.name": optimizer})
    return Workload(config, recipe)


def small_config(recipe: str, **fields: str):
    config = get_recipe(recipe).config()
    if recipe == "imagenet-vit":
        model = ViTConfig(depth=2, width=64, num_heads=2, patch_size=16)
        return override(replace(config, model=model), {"precision": "no", **fields})
    return override(config, {**SMALL, **fields})


def real_model(config) -> nn.Module:
    model = planned_model(config, get_recipe(config.recipe)).create().to_empty(device="cpu")
    for tensor in (*model.parameters(), *model.buffers()):
        nn.init.normal_(tensor, std=0.02)
    return model


@pytest.mark.parametrize(
    ("size", "encoding", "multiply_adds"),
    # Table 1 of arXiv 2212.09748 counts multiply-adds, without the encoding.
    [("DiT-B/2", "harope", 23.01e9), ("DiT-XL/2", "none", 118.64e9)],
)
def test_operations_are_those_of_the_paper_twice(size, encoding, multiply_adds):
    workload = dit_workload(size, encoding)
    assert workload.forward_flops.per_image == pytest.approx(2 * multiply_adds, rel=5e-3)


def test_a_step_is_three_forward_passes_and_checkpointing_a_fourth():
    workload = dit_workload("DiT-S/2", "harope")
    forward = workload.forward_flops.per_image
    assert workload.step_flops(checkpointing=False).per_image == pytest.approx(3 * forward)
    assert workload.step_flops(checkpointing=True).per_image == pytest.approx(4 * forward)


def test_parameters_are_those_of_the_built_model():
    counts = dit_workload("DiT-S/2", "harope").parameters
    built = sum(p.numel() for p in harope.DiT("DiT-S/2").parameters())
    assert (counts.total, counts.trained, counts.bytes) == (built, built, 4 * built)
    assert counts.optimizer_bytes == 8 * built


@pytest.mark.parametrize("name", ["stabilityai", "black-forest-labs"])
def test_released_transformers_have_their_size(name):
    # Sums of the shapes in the released files, without encodings.
    sizes = {"stabilityai": 2_028_328_000, "black-forest-labs": 11_901_408_320}
    recipe = get_recipe("coco-sd3" if name == "stabilityai" else "flux-lora")
    encoding = "ape" if name == "stabilityai" else "axial"
    config = override(recipe.config(), {"model.encoding": encoding})
    model = planned_model(config, recipe).create()
    lora = sum(p.numel() for key, p in model.named_parameters() if "lora" in key)
    assert sum(p.numel() for p in model.parameters()) - lora == sizes[name]


@pytest.mark.parametrize(
    ("recipe", "encoding"),
    [
        ("imagenet-dit-128", "none"),
        ("imagenet-dit-128", "axial"),
        ("imagenet-dit-128", "harope"),
        ("imagenet-vit", "harope"),
    ],
)
def test_activations_are_what_the_cpu_keeps(recipe, encoding):
    config = small_config(recipe, **{"model.encoding": encoding})
    workload, planned = (
        Workload(config, get_recipe(recipe)),
        planned_model(config, get_recipe(recipe)),
    )
    model = real_model(config)
    measured = count_saved(model, lambda: planned.forward(model, IMAGES, torch.device("cpu")))
    counted = workload.activations(checkpointing=False).at(IMAGES)
    assert counted == pytest.approx(measured.total, rel=0.01)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_memory_of_a_step_is_bounded_closely(checkpointing):
    config = small_config("imagenet-dit")
    recipe = get_recipe("imagenet-dit")
    planned, model = planned_model(config, recipe), real_model(config)
    model.gradient_checkpointing = checkpointing
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    peak = peak_bytes(lambda: planned.forward(model, IMAGES, torch.device("cpu")).backward())
    counted = Workload(config, recipe).activations(checkpointing=checkpointing).at(IMAGES)
    assert counted == pytest.approx(peak, rel=0.1)


def test_the_parts_of_the_memory_have_their_sizes():
    workload = dit_workload("DiT-S/2", "harope")
    parts = {part.name: part for part in memory_parts(workload, Layout(batch_size=64))}
    trained = workload.parameters.trained
    assert parts["weights"].bytes == parts["EMA"].bytes == parts["gradients"].bytes == 4 * trained
    assert parts["optimizer (adamw)"].bytes == 8 * trained
    # Autocast copies the weight matrices, which are nearly all parameters.
    assert parts["copies of the weights"].bytes == pytest.approx(2 * trained, rel=0.2)


def test_muon_keeps_one_moment_of_matrices():
    counts = dit_workload("DiT-S/2", "harope", optimizer="muon").parameters
    assert counts.optimizer_bytes < 5 * counts.total


def test_frozen_parts_are_counted():
    recipe = get_recipe("coco-sd3")
    encoders = planned_model(recipe.config(), recipe).frozen
    assert [part.name for part in encoders] == ["CLIP text encoders", "T5-XXL"]
    assert sum(part.parameters * part.bytes_per_parameter for part in encoders) / 2**30 > 10


@pytest.mark.parametrize(
    ("recipe", "fields", "message"),
    [
        ("flux-lora-emoji", {}, "neither a folder of a pipeline nor one of stabilityai"),
        ("scenes-dit", {"data.kind": "digits"}, "is measured when it is opened"),
    ],
)
def test_what_cannot_be_known_is_said(recipe, fields, message):
    found = get_recipe(recipe)
    with pytest.raises(ValueError, match=message):
        Workload(override(found.config(), fields), found)


def test_lines_go_through_the_traced_batches():
    line = Linear.through(14.0, 22.0)
    assert (line.at(0), line.at(4), line.at(8), line.at(100)) == (6.0, 14.0, 22.0, 206.0)
