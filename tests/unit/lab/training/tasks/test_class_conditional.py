from dataclasses import replace

import torch

from harope.diffusion import FlowConfig
from harope.diffusion.generate import SamplingConfig
from harope.lab.data.labelled.digits import DigitsDataConfig
from harope.lab.training import TrainConfig
from harope.lab.training.tasks.class_conditional import Denoising
from harope.models.dit import DiT, DiTConfig

CONFIG = TrainConfig(
    recipe="test",
    model=DiTConfig(
        depth=1,
        width=32,
        num_heads=2,
        patch_size=2,
        in_channels=1,
        num_classes=10,
        learned_variance=False,
        label_dropout=0.5,
    ),
    data=DigitsDataConfig(),
    diffusion=FlowConfig(),
    sampling=SamplingConfig(sampler="euler"),
    steps=10,
    batch_size=6,
    seed=3,
)


def make_task(**changes) -> tuple[Denoising, DiT]:
    torch.manual_seed(0)
    task = Denoising(replace(CONFIG, **changes), torch.device("cpu"))
    for parameter in task.model.final_layer.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return task, task.model


def test_parts_of_a_batch_have_the_losses_they_have_in_the_whole():
    task, model = make_task()
    images, labels = torch.randn(6, 1, 4, 4), torch.arange(6)
    whole = task.losses(model, (images, labels), 7, 0)["loss"]
    parts = [task.losses(model, (images[i : i + 2], labels[i : i + 2]), 7, i) for i in (0, 2, 4)]
    torch.testing.assert_close(whole, torch.cat([part["loss"] for part in parts]))


def test_steps_differ_and_a_step_repeats_itself():
    task, model = make_task()
    batch = torch.randn(6, 1, 4, 4), torch.zeros(6, dtype=torch.int64)
    first, again, other = (task.losses(model, batch, step, 0)["loss"] for step in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.isclose(first, other).any()


def test_about_the_configured_share_of_labels_is_dropped():
    task, _ = make_task(batch_size=2000)
    seen = []

    def model(x, t, labels, dropped):
        seen.append(dropped.float().mean().item())
        return x

    task.losses(model, (torch.zeros(2000, 1, 2, 2), torch.zeros(2000, dtype=torch.int64)), 0, 0)
    assert abs(seen[0] - 0.5) < 0.05
