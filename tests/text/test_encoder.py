"""Text encoders: one protocol for our networks and for T5, and the cache that belongs to exactly one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers

from t2i.errors import InputError
from t2i.nets.clip import Clip, ClipConfig
from t2i.nets.language import LanguageConfig, LanguageModel
from t2i.text.cache import CachedEncoder
from t2i.text.encoder import NetEncoder, TextEncoder
from t2i.text.t5 import T5Encoder, build_t5, fill_t5, read_t5, t5_config
from t2i.text.tokenizer import train_tokenizer

TEXTS = ["a cat in the snow", "a red apple", "一只猫"]
WORDS = ["<pad>", "</s>", "<unk>", "a", "cat", "in", "the", "snow", "red", "apple", "on", "blue", "chair", "and", "dog"]
T5 = {
    "d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "vocab_size": 32, "pad_token_id": 0,
    "eos_token_id": 1, "feed_forward_proj": "gated-gelu",
}  # fmt: skip


def language(seed: int = 0) -> NetEncoder:
    torch.manual_seed(seed)
    config = LanguageConfig(width=16, layers=1, heads=2, context=24, vocab=300)
    return NetEncoder(LanguageModel(config).eval(), train_tokenizer(TEXTS, 300), 16, 16)


def clip() -> NetEncoder:
    torch.manual_seed(0)
    config = ClipConfig(
        embed_dim=8, image_size=16, vision_width=16, vision_layers=1, vision_head_width=16,
        text_width=16, text_layers=1, text_heads=2, context=24, vocab=300,
    )  # fmt: skip
    return NetEncoder(Clip(config).eval(), train_tokenizer(TEXTS, 300), 16, 8)


def t5_tokenizer() -> str:
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return str(backend.to_str())


def t5(context: int = 12) -> T5Encoder:
    pytest.importorskip("transformers", reason="transformers is not installed: pip install 't2i[t5]'")
    torch.manual_seed(0)
    return T5Encoder(build_t5(T5), t5_tokenizer(), context)


ENCODERS: dict[str, Any] = {"clip": clip, "language": language, "t5": t5}


@pytest.mark.parametrize("name", ENCODERS)
def test_one_protocol(name: str) -> None:
    encoder: TextEncoder = ENCODERS[name]()
    text, cut = encoder.encode(TEXTS)
    assert text.tokens.shape == (3, encoder.context, encoder.width)
    assert text.mask.shape == (3, encoder.context) and text.pooled.shape == (3, encoder.pooled_width)
    assert cut == [None] * 3 and text.tokens.dtype == torch.float32
    tight, _ = encoder.encode(TEXTS, tight=True)
    length = int(text.mask.sum(1).max())
    assert tight.tokens.shape[1] == length < encoder.context
    assert torch.equal(tight.mask, text.mask[:, :length])
    for i, prompt in enumerate(TEXTS):
        alone, _ = encoder.encode([prompt])
        torch.testing.assert_close(alone.tokens[0][alone.mask[0]], text.tokens[i][text.mask[i]], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(alone.pooled[0], text.pooled[i], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(tight.pooled[i], text.pooled[i], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_what_does_not_fit_is_told(name: str) -> None:
    encoder = ENCODERS[name]()
    prompt = "a cat in the snow and a red apple on a blue chair and a dog in the snow"
    text, cut = encoder.encode([prompt])
    assert bool(text.mask.all())
    assert cut[0] is not None and prompt.endswith(cut[0])


def test_a_fingerprint_is_that_of_weights_and_tokenizer() -> None:
    assert language().fingerprint == language().fingerprint != language(seed=1).fingerprint
    other = NetEncoder(language().net, train_tokenizer(["a dog on a log"], 300), 16, 16)
    assert other.fingerprint != language().fingerprint


def test_a_t5_from_its_folder(tmp_path: Path) -> None:
    encoder = t5()
    encoder.net.save_pretrained(tmp_path)
    (tmp_path / "tokenizer.json").write_text(t5_tokenizer())
    parts = read_t5(tmp_path)
    assert parts.config["d_model"] == 16 and "encoder.embed_tokens.weight" not in parts.weights
    again = build_t5(parts.config)
    fill_t5(again, parts.weights)
    loaded = T5Encoder(again, parts.tokenizer, 12)
    assert loaded.fingerprint == encoder.fingerprint
    assert torch.equal(loaded.encode(TEXTS)[0].tokens, encoder.encode(TEXTS)[0].tokens)


def test_what_is_no_t5_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not the folder of a T5"):
        t5_config(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert", "d_model": 16}))
    with pytest.raises(InputError, match="not that of a T5"):
        t5_config(tmp_path)


def test_a_cache_gives_back_what_was_encoded(tmp_path: Path) -> None:
    encoder = language()
    cache = CachedEncoder(encoder, tmp_path / "texts")
    cache.fill([*TEXTS, TEXTS[0]])
    assert len(cache) == 3 and TEXTS[0] in cache and "a dog" not in cache
    again = CachedEncoder(encoder, tmp_path / "texts")
    assert len(again) == 3
    for tight in (True, False):
        (a, _), (b, _) = encoder.encode(TEXTS, tight), again.encode(TEXTS, tight)
        assert torch.equal(a.mask, b.mask) and a.tokens.shape == b.tokens.shape
        torch.testing.assert_close(a.tokens[a.mask], b.tokens[b.mask], atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(a.pooled, b.pooled, atol=2e-3, rtol=2e-3)
    again.encode(["a dog"])  # what is new is read and can be written
    again.flush()
    assert len(CachedEncoder(encoder, tmp_path / "texts")) == 4
    assert len(list((tmp_path / "texts").glob("*.safetensors"))) == 2


def test_a_cached_text_is_not_read_again(tmp_path: Path) -> None:
    cache = CachedEncoder(language(), tmp_path)
    cache.fill(TEXTS)
    other = CachedEncoder(language(), tmp_path)
    other.encoder = None  # type: ignore[assignment]  # would fail if it were asked
    assert other.encode(TEXTS)[0].pooled.shape == (3, 16)


def test_a_cache_of_another_encoder_is_refused(tmp_path: Path) -> None:
    CachedEncoder(language(), tmp_path).fill(TEXTS)
    with pytest.raises(InputError, match="of another text encoder") as caught:
        CachedEncoder(language(seed=1), tmp_path)
    assert caught.value.code == "mismatch"


@pytest.mark.parametrize(("file", "data"), [("cache.json", b"{"), ("00000.safetensors", b"\x08")])
def test_a_damaged_cache_is_refused(tmp_path: Path, file: str, data: bytes) -> None:
    CachedEncoder(language(), tmp_path).fill(TEXTS)
    (tmp_path / file).write_bytes(data)
    with pytest.raises(InputError, match=file):
        CachedEncoder(language(), tmp_path)
