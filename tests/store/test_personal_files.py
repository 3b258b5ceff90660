"""Files of personal models: written and read, and those that are damaged or hostile."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i.errors import InputError, T2IError, UsageError
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.stages.personal import reserve
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.load_options import LoadOptions
from t2i.store.lora import read_lora
from t2i.store.personal import Personal, PersonalFacts, check_token, load_personal, write_personal
from t2i.text.tokenizer import Tokenizer

NAME = "cond.z_emb.0.weight"
PROMPT = "a <mine> in the snow"


def personal(bundle: Bundle, token: str = "<mine>", seed: int = 0) -> Personal:
    """A change of one weight of the base, and a word."""
    g = torch.Generator().manual_seed(seed)
    digests = {entry.name: bundle.manifest.digest(entry) for entry in bundle.manifest.stages}
    facts = PersonalFacts(token, "tiny", {k: digests[k] for k in ("clip", "base")}, 4, {"pictures": 3})
    rows, columns = bundle.layout("base")[NAME][1]
    change = torch.randn(rows, 2, generator=g), torch.randn(2, columns, generator=g)
    return Personal(facts, torch.randn(32, generator=g), {"base": {NAME: change}})


def write(folder: Path, made: Personal, name: str = "mine.safetensors") -> Path:
    write_personal(folder / name, made)
    return folder / name


def edited(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The file with its header changed."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    change(header)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data[8 + size :])
    return path


def said(header: dict[str, Any], **changes: Any) -> None:
    facts = {**json.loads(header["__metadata__"]["t2i"]), **changes}
    header["__metadata__"]["t2i"] = json.dumps({k: v for k, v in facts.items() if v is not None})


def load(path: Path, bundle: Bundle) -> Pipeline:
    """As the command line does it."""
    lora = read_lora(str(path))
    bundle.check_load(LoadOptions(loras=(lora,)))
    return Pipeline.load(bundle.path, loras=[lora])


def test_what_is_written_is_read_again(tiny: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny)
    made = personal(bundle)
    lora = read_lora(f"{write(tmp_path, made)}:0.5")
    assert (lora.name, lora.scale, lora.layers) == ("mine", 0.5, 1)
    assert lora.personal == made.facts
    again = load_personal(lora.path, made.facts)
    assert torch.equal(again.word, made.word.half().float())
    for a, b in zip(again.changes["base"][NAME], made.changes["base"][NAME], strict=True):
        assert torch.equal(a, b.half().float())


def test_the_weights_are_those_of_the_bundle_plus_the_scaled_product(tiny: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny)
    path = write(tmp_path, personal(bundle))
    up, down = load_personal(path, personal(bundle).facts).changes["base"][NAME]
    plain = Pipeline.load(tiny)
    changed = Pipeline.load(tiny, loras=[read_lora(f"{path}:0.5")])
    for name, p in plain.base[1].net.named_parameters():
        expected = p + 0.5 * up @ down if name == NAME else p
        assert torch.allclose(changed.base[1].net.get_parameter(name), expected, atol=1e-6), name
    prompts, seeds, request = [PROMPT], [1], SampleRequest(size=16)
    assert not torch.equal(changed.sample(prompts, seeds, request).images, plain.sample(prompts, seeds, request).images)
    assert changed.sample(prompts, seeds, request).unknown == [[]]
    assert plain.sample(prompts, seeds, request).unknown == [["mine"]]


def test_a_word_takes_an_id_that_no_text_has(tiny: Path) -> None:
    tokenizer = Tokenizer.load(tiny)
    other, rows = reserve(["<mine>", "<my-dog>"], tokenizer)
    assert len(set(rows)) == 2 and max(rows) < other.sot
    ids = other.backend.encode("a <MINE>在<my-dog>").ids
    assert [i for i in ids if i in rows] == rows
    for text in ("a cat in the snow", "mine < > <minet", "一只猫在雪地里玩耍", "<mine"):
        assert other.backend.encode(text).ids == tokenizer.backend.encode(text).ids
    assert not set(tokenizer.backend.encode("a <mine>").ids) & set(rows)
    with pytest.raises(UsageError, match="no room"):
        reserve([f"<w{i}>" for i in range(300)], tokenizer)


def test_two_personal_models_at_once(tiny: Path, tmp_path: Path) -> None:
    """Their order does not matter; two of one word are refused."""
    bundle = read_bundle(tiny)
    files = [write(tmp_path, personal(bundle, f"<w{i}>", i), f"{i}.safetensors") for i in range(2)]
    loras = [read_lora(str(file)) for file in files]
    drawn = [
        Pipeline.load(tiny, loras=order).sample(["<w0> and <w1>"], [1], SampleRequest(size=16)).images
        for order in (loras, loras[::-1])
    ]
    assert torch.allclose(drawn[0], drawn[1], atol=1e-4)
    same = read_lora(str(write(tmp_path, personal(bundle, "<w0>", 5), "other.safetensors")))
    with pytest.raises(UsageError, match="the same word"):
        Pipeline.load(tiny, loras=[loras[0], same])


@pytest.mark.parametrize(
    ("token", "good"),
    [("<mine>", "<mine>"), (" <My-Dog_2> ", "<my-dog_2>"), ("<我的杯子>", "<我的杯子>"), ("＜mine＞", "<mine>")]
    + [(bad, "") for bad in ("mine", "<>", "< >", "<a b>", "<<a>>", "<" + "x" * 41 + ">", "", "<mine>, a cat", "cat")],
)  # fmt: skip
def test_a_token_is_a_word_in_angle_brackets(token: str, good: str) -> None:
    if good:
        assert check_token(token) == good
    else:
        with pytest.raises(UsageError, match="angle brackets"):
            check_token(token)


@pytest.mark.parametrize(
    "change",
    [
        lambda h: said(h, kind="other"),
        lambda h: said(h, schema=2),
        lambda h: said(h, token="cat"),
        lambda h: said(h, token="<MINE>"),
        lambda h: said(h, token=None),
        lambda h: said(h, rank=0),
        lambda h: said(h, rank=1),  # the file's are of rank 2
        lambda h: said(h, weights={"clip": "x"}),
        lambda h: said(h, weights={"clip": "0" * 64}),  # its changes are of another stage
        lambda h: said(h, run="rm -rf /"),
        lambda h: h["__metadata__"].update(t2i="{" * 1000),
        lambda h: h["__metadata__"].update(t2i="[]"),
        lambda h: h.pop("word") and h.update(words={"dtype": "F16", "shape": [32], "data_offsets": [0, 64]}),
        lambda h: h.update({"base.x.up": h.pop(f"base.{NAME}.up")}),
        lambda h: h[f"base.{NAME}.up"].update(shape=h[f"base.{NAME}.up"]["shape"][::-1]),
        lambda h: h[f"base.{NAME}.up"].update(shape=[-2, -2]),
        lambda h: h[f"base.{NAME}.up"].update(dtype="I16"),
    ],
)
def test_a_header_that_makes_no_sense_is_refused(
    tiny: Path, tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    path = edited(write(tmp_path, personal(read_bundle(tiny))), change)
    with pytest.raises(InputError) as caught:
        read_lora(str(path))
    assert caught.value.code == "bundle" and str(path) in caught.value.message


def test_other_weights_other_stages_and_other_shapes_are_refused(tiny: Path, tmp_path: Path, blind: Path) -> None:
    bundle = read_bundle(tiny)
    path = write(tmp_path, personal(bundle))
    with pytest.raises(InputError, match="trained for the model 'tiny'") as caught:
        load(path, read_bundle(blind))
    assert caught.value.code == "mismatch"
    edited(path, lambda h: said(h, weights={"clip": "0" * 64, "base": "0" * 64}))
    with pytest.raises(InputError, match="trained for another base and clip"):
        load(path, bundle)
    made = personal(bundle)
    for name, change in (
        ("no.such.weight", made.changes["base"][NAME]),
        (NAME, (torch.zeros(10_000, 1), torch.zeros(1, 10_000))),  # 400 MB, were it multiplied
        ("cond.z_emb.0.bias", (torch.zeros(32, 1), torch.zeros(1, 32))),
    ):
        odd = write(tmp_path, Personal(made.facts, made.word, {"base": {name: change}}), "odd.safetensors")
        with pytest.raises(InputError, match="has no weight for"):
            load(odd, bundle)
    odd = write(tmp_path, Personal(made.facts, torch.zeros(7), made.changes), "odd.safetensors")
    with pytest.raises(InputError, match="its word has the shape"):
        load(odd, bundle)


def test_damage_is_found_and_no_pickle_is_opened(tiny: Path, tmp_path: Path) -> None:
    bundle = read_bundle(tiny)
    path = write(tmp_path, personal(bundle))
    data = path.read_bytes()
    for damaged in (data[:-1], data + b"x", b"", data[:100], b"\x80\x04" + data):
        path.write_bytes(damaged)
        with pytest.raises(T2IError):
            read_lora(str(path))
    infinite = torch.frombuffer(bytearray(data), dtype=torch.uint8)
    infinite[-2:] = torch.tensor([0x00, 0x7C], dtype=torch.uint8)  # infinity in float16
    path.write_bytes(bytes(infinite.tolist()))
    with pytest.raises(InputError, match="not numbers"):
        load(path, bundle)


def test_a_lora_for_open_checkpoints_is_refused_by_a_bundle(tiny: Path, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    path = tmp_path / "style.safetensors"
    save_file({"unet.x.lora_A.weight": torch.zeros(2, 4), "unet.x.lora_B.weight": torch.zeros(4, 2)}, path)
    with pytest.raises(UsageError, match="--lora: tiny is a model of ours"):
        read_bundle(tiny).check_load(LoadOptions(loras=(read_lora(str(path)),)))


def test_a_folder_with_one_file_is_its_personal_model(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "thing").mkdir()
    write(tmp_path / "thing", personal(read_bundle(tiny)))
    assert read_lora(f"{tmp_path / 'thing'}:0.8").scale == 0.8
    shutil.copy(tmp_path / "thing/mine.safetensors", tmp_path / "thing/two.safetensors")
    with pytest.raises(InputError, match="2 safetensors files"):
        read_lora(str(tmp_path / "thing"))
