import pytest
import torch

from harope.lab.evals.classification import predict, train_classifier, warn_of_missing_classes


def stripes(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noisy horizontal (0) and vertical (1) stripes."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 2
    wave = torch.arange(12).float().mul(1.5).sin()
    images = torch.where(labels[:, None, None] == 1, wave, wave[:, None])
    noise = torch.randn(count, 12, 12, generator=generator)
    return (images + 0.3 * noise)[:, None], labels


def test_it_learns_to_tell_stripes_apart():
    images, labels = stripes(512, seed=0)
    model = train_classifier(images, labels, num_classes=2, epochs=2)
    unseen, truth = stripes(200, seed=1)
    assert (predict(model, unseen) == truth).float().mean() > 0.95


def test_the_same_seed_gives_the_same_classifier():
    images, labels = stripes(256, seed=0)
    one, two = (train_classifier(images, labels, num_classes=2, epochs=1) for _ in range(2))
    assert all(map(torch.equal, one.parameters(), two.parameters()))


@pytest.mark.parametrize(("count", "epochs"), [(256, 0), (100, 1)])
def test_too_few_images_or_epochs_are_refused(count, epochs):
    images, labels = stripes(count, seed=0)
    with pytest.raises(ValueError, match=f"epochs {epochs} must be at least 1, and {count} images"):
        train_classifier(images, labels, num_classes=2, epochs=epochs)


def test_classes_that_one_side_does_not_have_are_named():
    with pytest.warns(UserWarning, match=r"the samples have no image of 2 classes: b, d$"):
        warn_of_missing_classes("samples", ["a", "c", "e"], ["b", "a", "d", "b"])
    warn_of_missing_classes("samples", [3, 1, 2], [1, 1, 2])
