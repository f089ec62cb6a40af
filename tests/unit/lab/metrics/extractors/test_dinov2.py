import pytest
import torch
from PIL import Image
from torchvision.transforms import functional as TF
from transformers import BertConfig, BertModel, Dinov2Config, Dinov2Model

from harope.lab.metrics.features import load_extractor


def small_model():
    torch.manual_seed(0)
    config = Dinov2Config(
        hidden_size=16, num_hidden_layers=2, num_attention_heads=2, image_size=224, patch_size=56
    )
    return Dinov2Model(config).eval()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dinov2")
    small_model().save_pretrained(folder)
    return str(folder)


def smooth(height=60, width=80):
    rows, columns = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)[None]
    image = torch.stack([rows * columns, rows + 0 * columns, 1 - columns + 0 * rows], dim=-1)
    return (image * 255).round().to(torch.uint8)


def test_features_are_the_class_token_of_the_image_as_pillow_resizes_it(checkpoint):
    image = smooth()
    resized = Image.fromarray(image.numpy()).resize((224, 224), Image.Resampling.BICUBIC)
    pixels = TF.normalize(
        TF.pil_to_tensor(resized).float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        expected = small_model()(pixel_values=pixels[None]).pooler_output
    extractor = load_extractor("dinov2", checkpoint)
    found = extractor(image[None])
    assert extractor.features_dim == 16
    # Pillow rounds to whole colours between its two passes.
    torch.testing.assert_close(found.features, expected, rtol=0.02, atol=0.02)
    assert not extractor.has_logits


def test_another_architecture_is_refused(tmp_path):
    config = BertConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=9)
    BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="holds a model of type 'bert'"):
        load_extractor("dinov2", str(tmp_path))
