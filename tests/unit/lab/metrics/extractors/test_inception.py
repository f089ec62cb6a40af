import pickle

import pytest
import torch
from torch_fidelity import FeatureExtractorInceptionV3
from torch_fidelity import feature_extractor_inceptionv3 as port

from harope.lab.metrics.features import load_extractor
from support.distance import noise


def random_weights():
    """All weights as views of two small arrays, so that the file is small too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(port, "load_state_dict_from_url", lambda *args, **kwargs: {})
        patch.setattr(FeatureExtractorInceptionV3, "load_state_dict", lambda *args: None)
        state = FeatureExtractorInceptionV3("any", ["2048"]).state_dict()
    draws = torch.Generator().manual_seed(0)
    signed = 0.03 * torch.randn(max(w.numel() for w in state.values()), generator=draws)
    positive = torch.rand(2048, generator=draws) + 0.5
    small = {name: signed[: w.numel()].view(w.shape) for name, w in state.items() if w.dim() > 1}
    flat = {name: positive[: w.numel()].view(w.shape) for name, w in state.items() if w.dim() <= 1}
    return {name: small.get(name, flat.get(name)) for name in state}


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(random_weights(), path)
    return str(path)


def test_features_logits_and_spatial_features_are_those_of_the_port(weights):
    network = FeatureExtractorInceptionV3(
        "any", ["2048", "logits_unbiased", "logits"], feature_extractor_weights_path=weights
    )
    seen = []
    network.Mixed_6d.branch1x1.register_forward_hook(lambda module, x, y: seen.append(y))
    images = torch.from_numpy(noise(1, 40, 50))
    features, logits, biased = network(images.permute(0, 3, 1, 2))
    extractor = load_extractor("inception", weights)
    found = extractor(images)
    assert features.std() > 0
    assert not torch.equal(logits, biased)
    torch.testing.assert_close(found.features, features)
    torch.testing.assert_close(found.logits, logits)
    assert found.spatial.shape == (1, 17 * 17 * 7)
    torch.testing.assert_close(found.spatial.view(17, 17, 7), seen[0][0, :7].permute(1, 2, 0))


def test_a_file_of_other_weights_is_named(tmp_path):
    torch.save({"weight": torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match=r"w\.pth does not hold torch-fidelity's Inception"):
        load_extractor("inception", str(tmp_path / "w.pth"))


class Trap:
    def __reduce__(self):
        return (pytest.fail, ("the file was unpickled",))


def test_a_pickle_is_not_run(tmp_path):
    torch.save({"weight": Trap()}, tmp_path / "w.pth", pickle_module=pickle)
    with pytest.raises(ValueError, match="does not hold weights only"):
        load_extractor("inception", str(tmp_path / "w.pth"))


def test_a_file_that_does_not_exist_is_an_error():
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth"):
        load_extractor("inception", "nowhere.pth")
