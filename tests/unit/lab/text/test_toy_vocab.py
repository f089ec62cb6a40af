import pytest
import torch

from harope.lab.scenes import NUM_CLASSES, TASKS, class_prompt, rng_for, sample_prompt
from harope.lab.scenes.grammar import WORDS
from harope.lab.text.toy_vocab import ToyVocabularyConfig, ToyVocabularyEncoder


def captions_of_scenes():
    sampled = {sample_prompt(task, rng_for(0, i)).caption for task in TASKS for i in range(300)}
    return sorted(sampled | {class_prompt(label).caption for label in range(NUM_CLASSES)})


def test_every_scene_caption_has_distinct_embeddings():
    captions = captions_of_scenes()
    states = ToyVocabularyEncoder().encode(captions).states
    assert len(states.flatten(1).unique(dim=0)) == len(captions) > 500


def test_the_words_are_those_that_captions_use():
    used = {word for caption in captions_of_scenes() for word in caption.split()}
    assert used == set(WORDS)
    assert len(WORDS) == len(set(WORDS))


def test_word_vectors_are_well_separated():
    states = ToyVocabularyEncoder(length=2).encode(list(WORDS)).states[:, 1]
    distances = torch.cdist(states, states).fill_diagonal_(torch.inf)
    # 128 random signs differ in 64 places, give or take 5.7: a distance of 16. In fewer than 36,
    # five standard deviations below, the distance would be 12.
    assert distances.min() > 12


def test_order_of_words_matters():
    first, second = "a circle left of a star", "a star left of a circle"
    states, pooled, _ = ToyVocabularyEncoder().encode([first, second])
    assert not torch.allclose(states[0], states[1])
    torch.testing.assert_close(pooled[0], pooled[1])


def test_shapes_padding_and_pooling():
    encoder = ToyVocabularyEncoder(channels=16, length=6)
    states, pooled, mask = encoder.encode(["a red star", "circle"])
    assert states.shape == (2, 6, 16)
    assert pooled.shape == (2, encoder.pooled_channels)
    assert mask.sum(1).tolist() == [4, 2]
    assert (states[~mask] == 0).all()
    torch.testing.assert_close(pooled[0], states[0, :4].mean(0))


def test_the_empty_caption_has_an_embedding():
    states, pooled, mask = ToyVocabularyEncoder().encode([""])
    assert mask.sum() == 1
    assert torch.equal(pooled, states[:, 0])


def test_embeddings_do_not_depend_on_the_batch():
    encoder = ToyVocabularyEncoder()
    captions = captions_of_scenes()[:5]
    together = encoder.encode(captions).states
    alone = torch.cat([encoder.encode([caption]).states for caption in captions])
    assert torch.equal(together, alone)


def test_a_word_vector_depends_only_on_its_spelling():
    states = [
        ToyVocabularyEncoder(words=words).encode(["star"]).states
        for words in (("star",), ("circle", "star"))
    ]
    assert torch.equal(*states)


def test_identity_depends_on_sizes_and_words():
    encoders = [
        ToyVocabularyEncoder(),
        ToyVocabularyEncoder(channels=64),
        ToyVocabularyEncoder(length=13),
        ToyVocabularyEncoder(words=("star",)),
    ]
    identities = [encoder.identity for encoder in encoders]
    assert all(identities.count(identity) == 1 for identity in identities)
    assert ToyVocabularyEncoder().identity == identities[0]


def test_an_unknown_word_is_named():
    with pytest.raises(
        ValueError, match=r"word 'pink' of caption 'a pink star' is not in the vocabulary: use"
    ):
        ToyVocabularyEncoder().encode(["a star", "a pink star"])


def test_a_caption_that_is_too_long_is_named():
    with pytest.raises(ValueError, match=r"'a a a' has 3 words but length 3 allows 2"):
        ToyVocabularyEncoder(length=3).encode(["a a a"])


@pytest.mark.parametrize("fields", [{"channels": 12}, {"channels": 0}, {"length": 0}])
def test_sizes_out_of_range_are_refused(fields):
    (name, value), *_ = fields.items()
    with pytest.raises(ValueError, match=f"{name} must be .*, got {value}"):
        ToyVocabularyConfig(**fields)
