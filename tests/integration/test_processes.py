import torch
from safetensors.torch import load_file

from support.command import launch


def assert_same_weights(*runs) -> None:
    path = "checkpoints/step-00000004/model.safetensors"
    one, two = (load_file(run / path) for run in runs)
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-3, atol=1e-5)


def test_two_processes_train_and_sample_as_one_does(harope, tmp_path):
    """Same data, times and noise: what differs is the order in which gradients are added up."""
    arguments = ("train", "digits-dit", "--smoke", "--quiet", "--out")
    harope(*arguments, "one")
    launch(tmp_path, 2, *arguments, "two")
    assert_same_weights(tmp_path / "one", tmp_path / "two")
    harope("sample", "one", "--count", "5", "--out", "drawn-one", "--quiet")
    printed = launch(tmp_path, 2, "sample", "one", "--count", "5", "--out", "drawn-two", "--quiet")
    # By the first process alone: they know of each other.
    assert printed.count("5 samples") == 1
    for index in range(5):
        name = f"{index:06d}.png"
        assert (tmp_path / "drawn-one" / name).read_bytes() == (
            tmp_path / "drawn-two" / name
        ).read_bytes()


def test_two_processes_train_on_captions_that_one_of_them_encodes(harope, tmp_path):
    arguments = ("train", "emoji-mmdit", "--smoke", "--quiet", "--out")
    harope(*arguments, "one")
    launch(tmp_path, 2, *arguments, "two")
    assert_same_weights(tmp_path / "one", tmp_path / "two")
