import numpy as np
import pytest
import torch
from PIL import Image

from harope.lab.reporting.captions import plot_captioned_images


def test_every_caption_has_its_pictures_side_by_side(tmp_path):
    red, blue = torch.zeros(3, 3, 8, 8), torch.zeros(3, 3, 8, 8)
    red[:, 0], blue[:, 2] = 1, 1
    captions = ["a red square", "something much longer than one line can hold", "three"]
    plot_captioned_images({"samples": red, "real": blue}, captions, tmp_path / "g.png", across=2)
    pixels = np.asarray(Image.open(tmp_path / "g.png").convert("RGB"), dtype=int)
    is_red = (np.abs(pixels - [255, 0, 0]).sum(-1) < 30).sum()
    is_blue = (np.abs(pixels - [0, 0, 255]).sum(-1) < 30).sum()
    assert is_red > 1000
    assert is_red == pytest.approx(is_blue, rel=0.2)


def test_a_column_of_another_length_is_refused(tmp_path):
    with pytest.raises(ValueError, match="column 'samples' has 2 images but there are 1 captio"):
        plot_captioned_images({"samples": torch.zeros(2, 3, 4, 4)}, ["one"], tmp_path / "g.png")
