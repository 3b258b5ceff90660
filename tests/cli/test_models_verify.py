"""`models verify` and `models show` find what `sample` would fail at, and say in which file and under which key."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from t2i.cli.app import run

Command = Callable[..., tuple[list[str], str]]
Change = Callable[[dict[str, Any]], Any]


def rehash(model: Path, relative: str) -> None:
    """Make the manifest vouch for a changed file, so that the reader has to see the fault itself."""
    where = model / "bundle.json"
    manifest = json.loads(where.read_text())
    manifest["files"][relative] = hashlib.sha256((model / relative).read_bytes()).hexdigest()
    where.write_text(json.dumps(manifest))


def change_json(model: Path, relative: str, change: Change) -> None:
    value = json.loads((model / relative).read_text())
    change(value)
    (model / relative).write_text(json.dumps(value))
    if relative != "bundle.json":
        rehash(model, relative)


def net(**values: Any) -> Change:
    return lambda config: config["net"].update(values)


def defaults(stage: int, **values: Any) -> Change:
    return lambda manifest: manifest["stages"][stage]["defaults"].update(values)


ABSURD: dict[str, tuple[str, Change, str]] = {
    "heads of width 0": ("base/config.json", net(head_dim=0), "net.head_dim is 0"),
    "10^8 blocks": ("base/config.json", net(blocks=[10**8, 1]), "net.blocks[0] is 100000000"),
    "1000 levels": ("base/config.json", net(channels=[8] * 1000, blocks=[1] * 1000), "net.channels has 1000"),
    "an endless width": ("base/config.json", net(emb_dim=10**12), "net.emb_dim"),
    "a negative width": ("base/config.json", net(context_dim=-4), "net.context_dim is -4"),
    "no pixels": ("base/config.json", lambda c: c["widths"].update(size=0), "widths.size in base/config.json is 0"),
    "10^9 pixels": ("base/config.json", lambda c: c["widths"].update(size=10**9), "widths.size in base/config.json"),
    "odd features": ("base/config.json", net(time_features=15), "time_features is 15"),
    "widths of another net": ("base/config.json", lambda c: c["widths"].update(cond_dim=0), "widths.cond_dim is 0"),
    "a strange prediction": ("base/config.json", lambda c: c.update(prediction="soup"), "prediction is 'soup'"),
    "a strange process": ("base/config.json", lambda c: c.update(process=3), "process is not a table"),
    "a table of 10^9": ("base/config.json", lambda c: c.update(process={"kind": "vp", "T": 10**9}), "process.T"),
    "no net": ("base/config.json", lambda c: c.update(net=[]), "net is not a table"),
    "a strange design": ("upsampler64/config.json", lambda c: c.update(design="clip"), "design"),
    "a scale of 0": ("upsampler64/config.json", net(scale=0), "net.scale is 0"),
    "a patch of 0": ("clip/config.json", net(patch=0), "net.patch is 0"),
    "no heads": ("clip/config.json", net(text_heads=0), "net.text_heads is 0"),
    "no room for a word": ("clip/config.json", lambda c: c["widths"].update(context=1), "widths.context"),
    "10^6 layers": ("clip/config.json", net(text_layers=10**6), "net.text_layers is 1000000"),
    "heads that divide nothing": ("prior/config.json", net(heads=5), "divisible"),
    "a billion steps": ("bundle.json", defaults(2, steps=10**9), "stages[2].defaults.steps is 1000000000"),
    "no steps": ("bundle.json", defaults(2, steps=0), "stages[2].defaults.steps is 0"),
    "a guidance of 10^300": ("bundle.json", defaults(2, guidance=1e300), "stages[2].defaults.guidance"),
    "a strange sampler": ("bundle.json", defaults(2, sampler="soup"), "soup"),
    "a strange schedule": ("bundle.json", defaults(2, schedule="soup"), "soup"),
    "10^6 candidates": ("bundle.json", defaults(1, extra={"best_of": 10**6}), "best_of is 1000000"),
    "a name that leads out": ("bundle.json", lambda m: m["stages"][0].update(name="../clip"), "plain file name"),
    "deep notes": ("bundle.json", lambda m: m["notes"].update(x=json.loads("[" * 400 + "]" * 400)), "nested"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_an_absurd_number_is_named_before_anything_is_built(name: str, studio: Path, command: Command) -> None:
    relative, change, words = ABSURD[name]
    model = studio.parent / "home/models/tiny"
    change_json(model, relative, change)
    for args in (("models", "verify", "tiny"), ("models", "show", "tiny"), ("sample", "a", "--model", "tiny")):
        _, said = command(*args, code=3)
        assert words in said and relative in said, said
    assert not list(studio.iterdir())


def cut(tensors: dict[str, Any]) -> None:
    name = max(tensors, key=lambda n: tensors[n].numel())
    tensors[name] = tensors[name].flatten()[:-1].contiguous()


WEIGHTS: dict[str, Change] = {
    "a missing tensor": lambda tensors: tensors.pop(sorted(tensors)[0]),
    "a tensor too many": lambda tensors: tensors.update(extra=torch.ones(2)),
    "another shape": cut,
    "whole numbers": lambda tensors: tensors.update({k: t.to(torch.int64) for k, t in tensors.items()}),
    "truth values": lambda tensors: tensors.update({sorted(tensors)[0]: tensors[sorted(tensors)[0]] > 0}),
    "none at all": lambda tensors: tensors.clear(),
}


@pytest.mark.parametrize("stage", ["clip", "prior", "base", "upsampler64"])
@pytest.mark.parametrize("name", WEIGHTS)
def test_other_tensors_are_found(name: str, stage: str, studio: Path, command: Command) -> None:
    model = studio.parent / "home/models/tiny"
    relative = f"{stage}/model.safetensors"
    tensors = load_file(model / relative)
    WEIGHTS[name](tensors)
    save_file(tensors, model / relative)
    rehash(model, relative)
    for args in (("models", "verify", "tiny"), ("models", "show", "tiny")):
        assert f"tiny/{stage}" in command(*args, code=3)[1]


def test_a_tensor_of_a_hundred_thousand_dimensions_is_refused_at_once(studio: Path, command: Command) -> None:
    model = studio.parent / "home/models/tiny"
    relative = "base/model.safetensors"
    header = json.dumps({"w": {"dtype": "F16", "shape": [2**40] * 100_000, "data_offsets": [0, 2]}}).encode()
    (model / relative).write_bytes(len(header).to_bytes(8, "little") + header + b"\0\0")
    rehash(model, relative)
    assert "100000 dimensions" in command("models", "verify", "tiny", code=3)[1]


def test_a_tokenizer_that_is_not_the_encoders_is_found(studio: Path, command: Command) -> None:
    model = studio.parent / "home/models/tiny"

    def beyond(tokenizer: dict[str, Any]) -> None:
        vocab = tokenizer["model"]["vocab"]
        vocab[next(word for word, i in vocab.items() if i == 7)] = 10**6

    change_json(model, "tokenizer.json", beyond)
    assert "tokenizer" in command("models", "verify", "tiny", code=3)[1]


def test_one_bad_model_does_not_stop_the_others(studio: Path, command: Command, tiny: Path) -> None:
    models = studio.parent / "home/models"
    for bad in ("deep", "absurd", "empty"):
        shutil.copytree(tiny, models / bad)
    (models / "deep/bundle.json").write_text("[" * 100_000)
    change_json(models / "absurd", "base/config.json", net(head_dim=0))
    (models / "empty/base/model.safetensors").write_bytes(b"")
    out, said = command("models", "verify", "deep", "absurd", "no such", "empty", "tiny", code=3)
    assert out == ["tiny: whole, 10 files"]
    assert "4 of 5 models" in said and all(bad in said for bad in ("deep", "absurd", "no such", "empty"))


def test_the_whole_ones_are_whole(tiny: Path, blind: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["models", "verify", str(tiny), str(blind)]) == 0
    assert run(["models", "show", str(blind)]) == 0
