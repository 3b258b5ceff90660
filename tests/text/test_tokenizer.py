"""The tokenizer: two languages, fixed special ids, honest truncation."""

from __future__ import annotations

import json

import pytest

from t2i.errors import InputError
from t2i.text.tokenizer import SMALLEST, Tokenizer, train_tokenizer

CAPTIONS = [
    "a red cat in the snow",
    "a blue car and a red cat, on grass",
    "two penguins left of a snowman",
    "一只红色的猫在雪地里",
    "两只企鹅在雪人左边，蓝色的汽车",
] * 3


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return train_tokenizer(CAPTIONS, 512)


def test_layout_of_a_row(tokenizer: Tokenizer) -> None:
    ids, truncated = tokenizer.encode(["a red cat", ""], 12)
    assert ids.shape == (2, 12) and str(ids.dtype) == "torch.int64"
    assert tokenizer.vocab == 512 and (tokenizer.sot, tokenizer.eot, tokenizer.pad) == (510, 511, 0)
    assert ids[0].tolist()[0] == 510 and ids[0].tolist()[4:] == [511] + [0] * 7
    assert ids[1].tolist() == [510, 511] + [0] * 10
    assert ids.argmax(1).tolist() == [4, 1]
    assert truncated == [None, None]


def test_case_width_and_space_do_not_matter(tokenizer: Tokenizer) -> None:
    rows, _ = tokenizer.encode_ids(["A  Red\tＣＡＴ", "a red cat", "蓝色，猫", "蓝色,猫"], 40)
    assert rows[0] == rows[1] and rows[2] == rows[3]


def test_chinese_is_split_into_characters(tokenizer: Tokenizer) -> None:
    rows, _ = tokenizer.encode_ids(["红色的猫", "红", "色", "的", "猫"], 40)
    assert rows[0][1:-1] == [i for row in rows[1:] for i in row[1:-1]]
    assert len(rows[0]) == 6  # every character seen in training is one token


def test_unseen_text_becomes_bytes(tokenizer: Tokenizer) -> None:
    (row, other), _ = tokenizer.encode_ids(["龘", "🦊"], 40)
    assert len(row) == 2 + 3 and len(other) == 2 + 4
    assert 0 not in row and 0 not in other


def test_no_prompt_spells_a_special_token(tokenizer: Tokenizer) -> None:
    rows, _ = tokenizer.encode_ids(["<end> <start> <pad> <unused400>"], 60)
    inner = rows[0][1:-1]
    assert max(inner) < 510 and 0 not in inner


def test_truncation_says_what_was_cut(tokenizer: Tokenizer) -> None:
    rows, cut = tokenizer.encode_ids(["a red cat in the snow", "红色的猫在雪地里", "a cat"], 5)
    assert cut == [" in the snow".strip(), "猫在雪地里", None]
    assert [len(r) for r in rows] == [5, 5, 4] and rows[0][-1] == tokenizer.eot


def test_save_load_and_determinism(tokenizer: Tokenizer, tmp_path) -> None:  # type: ignore[no-untyped-def]
    tokenizer.save(tmp_path)
    again = Tokenizer.load(tmp_path)
    assert again.encode_ids(CAPTIONS, 40) == tokenizer.encode_ids(CAPTIONS, 40)
    assert train_tokenizer(CAPTIONS, 512).backend.to_str() == tokenizer.backend.to_str()


def test_bad_files_are_input_errors(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(InputError):
        Tokenizer.load(tmp_path)
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError):
        Tokenizer.load(tmp_path)
    foreign = json.loads(train_tokenizer(CAPTIONS, SMALLEST).backend.to_str())
    del foreign["model"]["vocab"]["<end>"]
    (tmp_path / "tokenizer.json").write_text(json.dumps(foreign))
    with pytest.raises(InputError):
        Tokenizer.load(tmp_path / "tokenizer.json")
    with pytest.raises(InputError):
        train_tokenizer(CAPTIONS, SMALLEST - 1)
