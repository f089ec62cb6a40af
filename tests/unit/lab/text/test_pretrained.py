import pytest
import torch

from harope.lab.text.pretrained import PretrainedTextConfig, load_text_encoder
from support.text import CAPTIONS, save_t5

CLIP = {"subfolder": "text_encoder", "tokenizer_subfolder": "tokenizer"}
T5 = {"subfolder": "text_encoder_2", "tokenizer_subfolder": "tokenizer_2"}


def test_sizes_match_the_model(checkpoint):
    encoder = load_text_encoder(checkpoint, length=9, pooling="projection", **CLIP)
    states, pooled, mask = encoder.encode(CAPTIONS)
    assert (encoder.length, encoder.channels, encoder.pooled_channels) == (9, 16, 12)
    assert states.shape == (3, 9, 16)
    assert pooled.shape == (3, 12)
    assert mask.shape == (3, 9)
    assert states.dtype == pooled.dtype == torch.float32


def test_mask_counts_words_and_what_the_tokenizer_adds(checkpoint):
    clip, t5 = (load_text_encoder(checkpoint, length=10, **names) for names in (CLIP, T5))
    assert clip.encode(CAPTIONS).mask.sum(1).tolist() == [8, 9, 2]
    assert t5.encode(CAPTIONS).mask.sum(1).tolist() == [7, 8, 1]


def test_the_mean_leaves_padding_out(checkpoint):
    states, pooled, mask = load_text_encoder(checkpoint, length=20, **T5).encode(CAPTIONS)
    for row, words, mean in zip(states, mask, pooled, strict=True):
        torch.testing.assert_close(mean, row[words].mean(0))


def test_token_embeddings_do_not_depend_on_padding(checkpoint):
    short, long = (load_text_encoder(checkpoint, length=n, **T5).encode(CAPTIONS) for n in (10, 30))
    torch.testing.assert_close(short.states[short.mask], long.states[long.mask])
    torch.testing.assert_close(short.pooled, long.pooled)


def test_padding_takes_part_in_attention_on_request(checkpoint):
    blind = load_text_encoder(checkpoint, length=10, **T5).encode(CAPTIONS)
    seeing = load_text_encoder(checkpoint, length=10, see_padding=True, **T5).encode(CAPTIONS)
    assert seeing.mask.all()
    assert not torch.allclose(seeing.states[blind.mask], blind.states[blind.mask], atol=1e-3)


def test_the_penultimate_layer_is_the_input_of_the_last(checkpoint):
    encoder = load_text_encoder(checkpoint, length=10, layer="penultimate", **CLIP)
    seen = []
    last = [module for name, module in encoder._model.named_modules() if name.endswith("layers.2")]
    last[0].register_forward_pre_hook(
        lambda _, args, kwargs: seen.append(args[0] if args else kwargs["hidden_states"]),
        with_kwargs=True,
    )
    assert torch.equal(encoder.encode(CAPTIONS).states, seen[0])


def test_long_captions_are_truncated(checkpoint):
    encoder = load_text_encoder(checkpoint, length=4, **T5)
    states = encoder.encode(["a picture of two red stars", "a picture of"]).states
    torch.testing.assert_close(states[0], states[1])


def test_bfloat16_weights_produce_float32_embeddings(checkpoint):
    exact = load_text_encoder(checkpoint, length=10, **T5)
    rough = load_text_encoder(checkpoint, length=10, dtype=torch.bfloat16, **T5)
    states = rough.encode(CAPTIONS).states
    assert states.dtype == torch.float32
    torch.testing.assert_close(states, exact.encode(CAPTIONS).states, rtol=0.1, atol=0.1)


def test_identity_depends_on_weights_and_options(checkpoint, tmp_path):
    save_t5(tmp_path, "_2", seed=7)
    encoders = [
        load_text_encoder(checkpoint, length=10, **T5),
        load_text_encoder(checkpoint, length=11, **T5),
        load_text_encoder(checkpoint, length=10, layer="penultimate", **T5),
        load_text_encoder(checkpoint, length=10, see_padding=True, **T5),
        load_text_encoder(checkpoint, length=10, dtype=torch.bfloat16, **T5),
        load_text_encoder(tmp_path, length=10, **T5),
    ]
    identities = [encoder.identity for encoder in encoders]
    assert all(identities.count(identity) == 1 for identity in identities)
    assert load_text_encoder(checkpoint, length=10, **T5).identity == identities[0]


def test_minilm_distinguishes_meanings():
    encoder = load_text_encoder(length=16)
    states, pooled, mask = encoder.encode(["a small dog", "a little puppy", "the stock market"])
    assert states.shape == (3, 16, 384)
    dog, puppy, market = torch.nn.functional.normalize(pooled, dim=1)
    assert dog @ puppy > 0.6 > 0.3 > dog @ market
    # The beginning, three words and the end.
    assert mask.sum(1).tolist() == [5, 5, 5]


def test_unsupported_pooling_is_refused(checkpoint):
    with pytest.raises(
        ValueError, match="T5EncoderModel has no output for pooling 'pooler': use pooling 'mean'"
    ):
        load_text_encoder(checkpoint, length=10, pooling="pooler", **T5)


def test_more_tokens_than_positions_are_refused(checkpoint):
    with pytest.raises(ValueError, match="length 78 exceeds the model's 77 positions"):
        load_text_encoder(checkpoint, length=78, **CLIP)


def test_a_length_below_one_is_refused():
    with pytest.raises(ValueError, match="length must be at least 1, got 0"):
        PretrainedTextConfig(length=0)


def test_captions_of_more_tokens_than_the_length_are_truncated(checkpoint):
    # With the tokens that are added, CLIP counts 8, 9 and 2 and T5 7, 8 and 1.
    clip, t5 = (load_text_encoder(checkpoint, length=8, **names) for names in (CLIP, T5))
    assert clip.truncated(CAPTIONS) == [CAPTIONS[1]]
    assert t5.truncated(CAPTIONS) == []
