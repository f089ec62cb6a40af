import numpy as np
import pytest
import torch
from PIL import Image

from harope.lab.data.dataset import loader
from harope.lab.data.image_io import random_crop
from harope.lab.data.labelled.folder import FolderDataConfig, ImageFolderDataset
from harope.lab.data.left_out import LeftOutWarning


def random_pixels(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path, pixels=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_pixels(8, 8) if pixels is None else pixels).save(path)
    return path


@pytest.fixture
def folder(tmp_path):
    """Two classes of two and three random images of 8 x 8."""
    for seed, name in enumerate(["b/2.png", "b/1.PNG", "a/x.png", "a/deeper/y.png", "a/.z.png"]):
        save(tmp_path / "data" / name, random_pixels(8, 8, seed))
    (tmp_path / "data/a/notes.txt").write_text("no image")
    (tmp_path / "data/.cache").mkdir()
    return tmp_path / "data"


def as_pixels(image):
    return ((image + 1) * 127.5).round().permute(1, 2, 0).to(torch.uint8).numpy()


def test_classes_and_items_are_sorted_by_name(folder):
    dataset = ImageFolderDataset(folder, image_size=8)
    images, labels = dataset.items(range(len(dataset)))
    assert (dataset.num_classes, labels.tolist()) == (2, [0, 0, 1, 1])
    for image, seed in zip(images, (3, 2, 1, 0), strict=True):
        np.testing.assert_array_equal(as_pixels(image), random_pixels(8, 8, seed))


def test_a_flat_folder_is_one_class(tmp_path):
    for name in ("2.png", "1.png"):
        save(tmp_path / name)
    dataset = ImageFolderDataset(tmp_path, image_size=8)
    assert (len(dataset), dataset.num_classes) == (2, 1)
    assert dataset.items([0, 1])[1].tolist() == [0, 0]


def test_names_that_are_not_ascii_are_read(tmp_path):
    save(tmp_path / "Äpfel" / "größe.png")
    assert ImageFolderDataset(tmp_path, image_size=8).items([0])[0].shape == (1, 3, 8, 8)


def test_about_half_of_the_samples_are_mirrored_for_any_batch(folder):
    plain = ImageFolderDataset(folder, 8, seed=5)
    flipping = ImageFolderDataset(folder, 8, seed=5, random_flip=True)
    numbers = range(200)
    straight, mirrored = plain.samples(numbers)[0], flipping.samples(numbers)[0]
    is_mirrored = [torch.equal(m, s.flip(-1)) for m, s in zip(mirrored, straight, strict=True)]
    same = [torch.equal(m, s) for m, s in zip(mirrored, straight, strict=True)]
    assert all(a != b for a, b in zip(is_mirrored, same, strict=True))
    # Five standard deviations of 200 fair coins are 35.
    assert abs(sum(is_mirrored) - 100) < 35
    assert torch.equal(flipping.samples([7])[0], mirrored[7:8])


def test_items_are_never_mirrored(folder):
    plain, flipping = (ImageFolderDataset(folder, 8, random_flip=flip) for flip in (False, True))
    assert torch.equal(plain.items(range(4))[0], flipping.items(range(4))[0])


def test_workers_read_the_same_images(folder):
    dataset = ImageFolderDataset(folder, 8, seed=5, random_flip=True)
    here, there = (loader(dataset, batch_size=6, num_workers=workers) for workers in (0, 2))
    for _ in range(3):
        assert torch.equal(next(here)[0], next(there)[0])


def test_random_crops_depend_only_on_seed_and_number(folder):
    dataset = ImageFolderDataset(folder, 8, seed=5, random_crop=0.25)
    state = torch.get_rng_state()
    images = dataset.samples(range(8))[0]
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(dataset.samples([6])[0], images[6:7])
    assert not torch.equal(ImageFolderDataset(folder, 8, seed=5).samples(range(8))[0], images)
    assert torch.equal(dataset.items([0])[0], ImageFolderDataset(folder, 8).items([0])[0])


def test_a_random_crop_covers_the_requested_fraction_of_the_area():
    ramp = np.broadcast_to(np.arange(0, 240, 2, dtype=np.uint8)[None, :, None], (120, 120, 3))
    image = Image.fromarray(ramp.copy())
    spans = []
    for seed in range(50):
        cropped = np.asarray(random_crop(image, 60, smallest=0.25, seed=seed), dtype=int)
        assert cropped.shape == (60, 60, 3)
        spans.append((cropped[0, -1, 0] - cropped[0, 0, 0]) / 238)
    # Width of a crop of share s and ratio r: sqrt(s r).
    assert min(spans) > (0.25 * 3 / 4) ** 0.5 - 0.05
    assert max(spans) - min(spans) > 0.3


@pytest.mark.parametrize("keep", [0, 10, 60])
def test_a_damaged_file_is_named(tmp_path, keep):
    path = save(tmp_path / "broken.png")
    path.write_bytes(path.read_bytes()[:keep])
    dataset = ImageFolderDataset(tmp_path, image_size=8)
    with pytest.raises(ValueError, match=r"broken\.png cannot be read as an image .*delete it"):
        dataset.items([0])


def test_a_folder_without_images_lists_the_accepted_extensions(tmp_path):
    with pytest.raises(
        ValueError, match=r"contains no images: add files with the extensions \.jpg, \.jpeg"
    ):
        ImageFolderDataset(tmp_path, image_size=8)


def test_an_empty_class_folder_is_named(folder):
    (folder / "c").mkdir()
    with pytest.raises(ValueError, match=r"data/c contains no images: .* or delete the folder"):
        ImageFolderDataset(folder, image_size=8)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        ImageFolderDataset(tmp_path / "nowhere", image_size=8)


def test_a_size_below_one_is_refused():
    with pytest.raises(ValueError, match="image_size must be at least 1, got 0"):
        FolderDataConfig(root="somewhere", image_size=0)


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_fraction_outside_of_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match=rf"random_crop must lie in \(0, 1\], got {share}"):
        FolderDataConfig(root="somewhere", random_crop=share)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("beside.png", r"images outside of the class folders \(1, the first: beside\.png\)"),
        ("a/moving.gif", r"images in formats that are not read \(1, the first: a/moving\.gif\)"),
    ],
)
def test_images_that_are_not_taken_are_counted(folder, name, reason):
    (folder / name).touch()
    with pytest.warns(LeftOutWarning, match=rf"data: 1 of 5 are left out: {reason}"):
        dataset = ImageFolderDataset(folder, 8, max_left_out=0.2)
    assert (len(dataset), dataset.classes) == (4, ("a", "b"))
    with pytest.raises(ValueError, match=rf"{reason}; this is more than max_left_out 0\.1"):
        ImageFolderDataset(folder, 8)


def test_links_to_folders_are_classes(folder, tmp_path):
    (folder / "a").rename(tmp_path / "elsewhere")
    (folder / "a").symlink_to(tmp_path / "elsewhere")
    assert len(ImageFolderDataset(folder, 8)) == 4


def test_the_identity_knows_files_and_classes(folder):
    before = ImageFolderDataset(folder, 8).identity
    assert before == ImageFolderDataset(folder, 8).identity
    assert before["classes"] == ["a", "b"]
    (folder / "a").rename(folder / "c")
    assert ImageFolderDataset(folder, 8).identity["files"] != before["files"]


@pytest.fixture
def many(tmp_path):
    """Two classes of 60 images each."""
    for name in "ab":
        for number in range(60):
            save(tmp_path / "many" / name / f"{number}.png")
    return tmp_path / "many"


def names(dataset):
    return set(dataset._files.tolist())


def test_the_parts_are_disjoint_and_an_image_stays_in_its_part(many):
    trained, held_out = (ImageFolderDataset(many, 8, split=split) for split in ("train", "test"))
    assert not names(trained) & names(held_out)
    assert names(trained) | names(held_out) == names(ImageFolderDataset(many, 8))
    # Five standard deviations of a binomial.
    assert abs(len(held_out) - 12) < 17
    assert trained.classes == held_out.classes == ("a", "b")
    labels = held_out.items(range(len(held_out)))[1].tolist()
    assert labels == [name.startswith(b"b") for name in held_out._files.tolist()]
    assert trained.identity["files"] != held_out.identity["files"]
    for number in range(60, 90):
        save(many / "a" / f"{number}.png")
    assert names(held_out) <= names(ImageFolderDataset(many, 8, split="test"))


def test_the_held_out_share_is_a_fraction(many):
    sizes = [
        len(ImageFolderDataset(many, 8, split="test", held_out_share=share))
        for share in (0.1, 0.3, 0.5)
    ]
    assert sizes == sorted(sizes)
    assert abs(sizes[-1] - 60) < 28
    with pytest.raises(ValueError, match=r"held_out_share must lie in \(0, 1\), got 1\.0"):
        FolderDataConfig(root="somewhere", held_out_share=1.0)


@pytest.mark.parametrize("name", ["val", "validation", "valid", "test"])
def test_folders_of_the_two_parts_are_read(tmp_path, name):
    save(tmp_path / "train/a/1.png")
    save(tmp_path / "train/b/2.png")
    save(tmp_path / name / "a/3.png")
    trained, held_out = (
        ImageFolderDataset(tmp_path, 8, split=split) for split in ("train", "test")
    )
    assert names(trained) == {b"a/1.png", b"b/2.png"}
    assert names(held_out) == {b"a/3.png"}
    with pytest.raises(ValueError, match=rf"has the folders train and {name}, which are parts"):
        ImageFolderDataset(tmp_path, 8)


@pytest.mark.parametrize("split", ["all", "train"])
def test_folders_of_parts_next_to_others_are_refused(tmp_path, split):
    for folder in ("train/a", "val/a", "spare"):
        save(tmp_path / folder / "1.png")
    with pytest.raises(ValueError, match=r"and others, such as spare: move these"):
        ImageFolderDataset(tmp_path, 8, split=split)


def test_a_class_may_be_called_train(many):
    (many / "a").rename(many / "train")
    assert ImageFolderDataset(many, 8, split="train").classes == ("b", "train")


def test_parts_without_images_are_refused(tmp_path):
    save(tmp_path / "a/1.png")
    with pytest.raises(ValueError, match="has 1 images, of which none is held out: set held_out_s"):
        ImageFolderDataset(tmp_path, 8, split="test", held_out_share=1e-9)
    with pytest.raises(ValueError, match=r"a has no images for training, because all are held out"):
        ImageFolderDataset(tmp_path, 8, split="train", held_out_share=1 - 1e-9)
