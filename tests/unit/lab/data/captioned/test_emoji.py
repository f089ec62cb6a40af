import json

import pytest

from harope.lab.data.captioned.emoji import EmojiDataConfig, caption_split, open_emoji


def entry(name, image, has=True, tones=()):
    variations = {code: {"image": f"{code}.png", "has_img_google": has} for code in tones}
    common = {"name": name, "image": image, "has_img_google": has}
    return common | ({"skin_variations": variations} if tones else {})


ENTRIES = [
    entry("WAVING HAND SIGN", "wave.png", tones=["1F3FB", "1F3FE"]),
    entry("HANDSHAKE", "shake.png", tones=["1F3FC-1F3FF"]),
    entry("Chile Flag", "chile.png"),
    entry("NOT DRAWN BY GOOGLE", "absent.png", has=False, tones=["1F3FF"]),
    entry("RAINBOW", "rainbow.png"),
]
CAPTIONS = [
    "waving hand sign",
    "waving hand sign, light skin tone",
    "waving hand sign, medium-dark skin tone",
    "handshake",
    "handshake, medium-light skin tone, dark skin tone",
    "chile flag",
]


@pytest.fixture
def package(tmp_path, save_image):
    """Package of seven emoji, one of them for testing."""
    for name in ("wave", "1F3FB", "1F3FE", "shake", "1F3FC-1F3FF", "chile", "rainbow"):
        path = tmp_path / f"img/google/64/{name}.png"
        save_image(path, (255, 0, 0, 0), size=(64, 64), mode="RGBA")
    return write(tmp_path, ENTRIES)


def write(root, entries):
    (root / "emoji.json").write_text(json.dumps(entries))
    return root


def test_names_and_tones_are_captions(package):
    dataset = open_emoji(EmojiDataConfig(root=str(package)), seed=0)
    assert dataset.items(range(len(dataset)))[1] == CAPTIONS


def test_test_captions_are_the_rest(package):
    dataset = open_emoji(EmojiDataConfig(root=str(package), split="test"), seed=0)
    assert dataset.items(range(len(dataset)))[1] == ["rainbow"]


def test_about_one_in_19_is_a_test_emoji():
    held_out = sum(caption_split(f"caption {number}") == "test" for number in range(3800))
    # 200 expected; five standard deviations of a binomial are 69.
    assert abs(held_out - 200) < 69


def test_transparency_becomes_white(package):
    images, _ = open_emoji(EmojiDataConfig(root=str(package), image_size=16), seed=0).items([0])
    assert images.shape == (1, 3, 16, 16)
    assert (images == 1).all()


def test_a_missing_image_is_named(package):
    (package / "img/google/64/chile.png").unlink()
    with pytest.raises(
        ValueError, match=r"emoji\.json lists chile\.png, which is missing from .*64"
    ):
        open_emoji(EmojiDataConfig(root=str(package)), seed=0)


@pytest.mark.parametrize("text", ["{", "{}x", '[{"name": "A"}]', "[3]", '{"a": 1}'])
def test_a_damaged_list_is_named(package, text):
    (package / "emoji.json").write_text(text)
    with pytest.raises(ValueError, match=r"emoji\.json cannot be read .*emoji-datasource-google"):
        open_emoji(EmojiDataConfig(root=str(package)), seed=0)


def test_a_missing_package_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"emoji\.json cannot be read .*emoji-datasource-google"):
        open_emoji(EmojiDataConfig(root=str(tmp_path)), seed=0)


def test_a_split_without_emoji_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"emoji\.json has no emoji in the split 'train'"):
        open_emoji(EmojiDataConfig(root=str(write(tmp_path, []))), seed=0)


def test_only_the_requested_captions_are_used(package):
    config = EmojiDataConfig(root=str(package), only=("chile flag", "handshake"))
    dataset = open_emoji(config, seed=0)
    assert dataset.items(range(len(dataset)))[1] == ["handshake", "chile flag"]


def test_a_caption_of_another_split_is_refused(package):
    with pytest.raises(
        ValueError, match="only names 'rainbow', which is not a caption of the split 'train'"
    ):
        open_emoji(EmojiDataConfig(root=str(package), only=("chile flag", "rainbow")), seed=0)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({}, "list"),
        ([{"name": 3, "image": "a.png", "has_img_google": True}], r"0\.name"),
        ([{"name": "a", "image": "../a.png", "has_img_google": True}], r"'\.\./a\.png'"),
        ([entry("a", "a.png", tones=["1F600"])], "skin tone '1F600' is none of"),
        ([entry("a", "a.png") | {"skin_variations": []}], r"0\.skin_variations"),
    ],
)
def test_other_values_are_named(tmp_path, value, message):
    with pytest.raises(ValueError, match=rf"cannot be read as a list of emoji \(.*{message}"):
        open_emoji(EmojiDataConfig(root=str(write(tmp_path, value))), seed=0)
