"""Random text encoders, as folders."""

import pytest

from support.text import save_clip, save_t5


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """Folder with CLIP as `text_encoder` and T5 as `text_encoder_2`."""
    folder = tmp_path_factory.mktemp("checkpoint")
    save_clip(folder, "", seed=0)
    save_t5(folder, "_2", seed=1)
    return folder
