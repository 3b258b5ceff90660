"""Bundles: written whole, read strictly, refused with a sentence that names the file."""

from __future__ import annotations

import hashlib
import json
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i.errors import InputError, UnavailableError
from t2i.sampling import SamplingConfig
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import update_stage, write_bundle
from t2i.store.manifest import Manifest, StageEntry
from t2i.store.registry import list_models, resolve
from t2i.store.tensors import decode

CLIP = StageEntry("clip", "clip", "clip")
PRIOR = StageEntry("prior", "prior", "prior", SamplingConfig(steps=10, guidance=1.0))
BASE = StageEntry(
    "base", "base", "base", SamplingConfig(steps=8, guidance=1.5, sampler="dpmpp_2m", threshold=(0.995, 1.5))
)
UP = StageEntry("upsampler256", "upsampler", "upsampler256", SamplingConfig(steps=2))
WIDTHS: dict[str, dict[str, int]] = {
    "clip": {"embed_dim": 4, "text_dim": 8, "context": 24, "vocab": 50},
    "prior": {"embed_dim": 4, "text_dim": 8},
    "base": {"cond_dim": 4, "text_dim": 8, "size": 64},
    "upsampler256": {"low": 64, "size": 256},
}
MANIFEST = Manifest("unclip", "toy", (CLIP, PRIOR, BASE, UP), (64, 256))


def stages(**changes: dict[str, int]) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        name: (
            {"widths": {**widths, **changes.get(name, {})}},
            {"w": torch.randn(3, 5, generator=generator), "n": torch.arange(4)},
        )
        for name, widths in WIDTHS.items()
    }


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "toy", MANIFEST, stages(), '{"v": 1}', "# toy\n")
    return tmp_path / "toy"


def test_what_was_written_is_read(toy: Path) -> None:
    bundle = read_bundle(toy)
    assert bundle.manifest.stages == MANIFEST.stages
    assert bundle.tokenizer_json() == '{"v": 1}'
    assert bundle.card() == "# toy\n"
    assert bundle.manifest.tool.startswith("t2i ")
    for name, (config, state) in stages().items():
        read_config, read_state = bundle.load_stage(name)
        assert read_config == config
        assert read_state["w"].dtype == torch.float32
        assert torch.equal(read_state["w"], state["w"].half().float())
        assert torch.equal(read_state["n"], state["n"])
    files = {str(p.relative_to(toy)) for p in toy.rglob("*") if p.is_file()}
    assert files == {*bundle.verify(), "bundle.json"}


def test_equal_weights_give_equal_files(toy: Path, tmp_path: Path) -> None:
    again = write_bundle(tmp_path / "again", MANIFEST, stages(), '{"v": 1}', "# toy\n")
    assert again.manifest.files == read_bundle(toy).manifest.files
    assert again.digest == read_bundle(toy).digest
    told = write_bundle(tmp_path / "told", MANIFEST, stages(), '{"v": 1}', "# toy, measured\n")
    assert told.digest == again.digest  # another card, the same pictures


def test_a_bundle_grows_stage_by_stage(tmp_path: Path) -> None:
    folder, made = tmp_path / "grown", stages()
    write_bundle(folder, Manifest("unclip", "toy", (CLIP,), ()), {"clip": made["clip"]}, "{}", "card")
    for entry in (BASE, UP, PRIOR):  # in any order
        bundle = update_stage(folder, entry, made[entry.name], notes={entry.name: "trained"})
    assert [e.name for e in bundle.manifest.stages] == ["clip", "prior", "base", "upsampler256"]
    assert bundle.manifest.sizes == (64, 256)
    assert set(bundle.manifest.notes) == {"prior", "base", "upsampler256"}
    before = bundle.digest
    (folder / "base" / "model.safetensors").write_bytes(b"damaged")
    config = made["base"][0]
    bundle = update_stage(folder, replace(BASE, defaults=SamplingConfig(steps=4)), (config, {"w": torch.ones(2)}))
    assert bundle.digest != before
    assert bundle.manifest.stage("base").defaults.steps == 4
    assert torch.equal(bundle.load_stage("base")[1]["w"], torch.ones(2))
    bundle.verify()


def test_a_cascade_may_stop_before_its_largest_size(tmp_path: Path) -> None:
    made, manifest = stages(), Manifest("unclip", "toy", (CLIP,), (), stop=64)
    write_bundle(tmp_path, manifest, {"clip": made["clip"]}, "{}", "card")
    sizes = []
    for entry in (UP, BASE):  # until the size it stops at is there, the largest
        if bundle_sizes := update_stage(tmp_path, entry, made[entry.name]).manifest.sizes:
            sizes.append((bundle_sizes, read_bundle(tmp_path).manifest.size))
    assert sizes[-1] == ((64, 256), 64)
    assert replace(read_bundle(tmp_path).manifest, stop=None).size == 256
    assert replace(read_bundle(tmp_path).manifest, stop=128).size == 256


@pytest.mark.parametrize(
    ("stage", "change", "sentence"),
    [
        (
            "prior",
            {"embed_dim": 5},
            "the width of the image embedding is 4 in stage 'clip' and 5 in stage 'prior'",
        ),
        ("base", {"cond_dim": 6}, "image embedding is 4 in stage 'prior' and 6 in stage 'base'"),
        ("base", {"text_dim": 9}, "the width of a text token is 8 in stage 'clip' and 9 in stage 'base'"),
        ("upsampler256", {"low": 32}, "'base' ends at 64 pixels and the stage 'upsampler256' starts from 32"),
        ("upsampler256", {"size": 128}, "promises the sizes 64, 256 and the stages make 64, 128"),
        ("clip", {"vocab": -1}, "the stage 'clip' does not say its vocab"),
    ],
)
def test_stages_that_do_not_fit(tmp_path: Path, stage: str, change: dict[str, int], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence) as caught:
        write_bundle(tmp_path / "no", MANIFEST, stages(**{stage: change}), "{}", "")
    assert caught.value.code == "mismatch"
    assert not (tmp_path / "no").exists()


def test_a_base_that_reads_no_tokens_fits(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b", MANIFEST, stages(base={"text_dim": 0}), "{}", "")


def test_diverged_weights_are_not_written(tmp_path: Path) -> None:
    made = stages()
    for value in (float("nan"), 1e9):
        made["base"][1]["w"][0, 0] = value
        with pytest.raises(InputError, match="not finite"):
            write_bundle(tmp_path / "no", MANIFEST, made, "{}", "")
    assert not (tmp_path / "no").exists()


def test_a_full_disk_leaves_the_old_bundle(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = 0

    def full(fd: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(InputError, match="No space left"):
            update_stage(toy, BASE, stages()["base"], card="new")
    assert read_bundle(toy).card() == "# toy\n"
    read_bundle(toy).verify()
    assert not [p for p in toy.rglob("*") if "tmp" in p.name]


def rehash(toy: Path, relative: str) -> None:
    """Make the manifest vouch for a changed file, so that the reader has to see the fault itself."""
    where = toy / "bundle.json"
    manifest = json.loads(where.read_text())
    manifest["files"][relative] = hashlib.sha256((toy / relative).read_bytes()).hexdigest()
    where.write_text(json.dumps(manifest))


def safetensors(header: Any, data: bytes, raw: bytes | None = None) -> bytes:
    text = raw if raw is not None else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin: int, end: int, shape: list[int], dtype: str = "F16") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


class Evil:
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return (exec, ("raise SystemExit('a pickle was opened')",))


WEIGHTS = {
    "empty": b"",
    "short": b"\x01\x02",
    "huge header": b"\xff" * 16,
    "header beyond the file": struct.pack("<Q", 1000) + b"{}",
    "header is no JSON": safetensors(None, b"", b"{nonsense"),
    "header is a list": safetensors([], b""),
    "deep header": safetensors(None, b"", b"[" * 100_000),
    "pickle": pickle.dumps(Evil()),
    "zip": b"PK\x03\x04" + b"\0" * 40,
    "cut data": safetensors({"w": entry(0, 8, [4])}, b"\0" * 6),
    "trailing bytes": safetensors({"w": entry(0, 8, [4])}, b"\0" * 9),
    "overlap": safetensors({"a": entry(0, 8, [4]), "b": entry(4, 8, [2])}, b"\0" * 8),
    "hole": safetensors({"a": entry(0, 4, [2]), "b": entry(6, 8, [1])}, b"\0" * 8),
    "wrong size": safetensors({"w": entry(0, 8, [5])}, b"\0" * 8),
    "negative": safetensors({"w": entry(0, 8, [-4])}, b"\0" * 8),
    "unknown type": safetensors({"w": entry(0, 8, [4], "Q4")}, b"\0" * 8),
    "duplicate key": safetensors(
        None,
        b"\0" * 8,
        b'{"w":{"dtype":"F16","shape":[4],"data_offsets":[0,8]},"w":{"dtype":"F16","shape":[4],"data_offsets":[0,8]}}',
    ),
    "nan": safetensors({"w": entry(0, 4, [2])}, struct.pack("<2e", 1.0, float("nan"))),
    "infinite": safetensors({"w": entry(0, 4, [2])}, struct.pack("<2e", 1.0, float("inf"))),
    "infinite both ways": safetensors({"w": entry(0, 4, [2])}, struct.pack("<2e", float("-inf"), float("inf"))),
}


def test_large_numbers_are_numbers() -> None:
    """Finite ones, whose sum is not."""
    data = safetensors({"w": entry(0, 12, [3], "F32")}, struct.pack("<3f", 3e38, 3e38, -1.0))
    assert decode(data, "here")["w"].tolist() == pytest.approx([3e38, 3e38, -1.0])


@pytest.mark.parametrize("name", WEIGHTS)
def test_damaged_weights_are_named(toy: Path, name: str) -> None:
    relative = "base/model.safetensors"
    (toy / relative).write_bytes(WEIGHTS[name])
    with pytest.raises(InputError, match="sha256 differs"):
        read_bundle(toy).load_stage("base")
    rehash(toy, relative)
    with pytest.raises(InputError, match=relative) as caught:
        read_bundle(toy).load_stage("base")
    assert caught.value.exit_code == 3


@pytest.mark.parametrize("relative", ["base/model.safetensors", "base/config.json", "tokenizer.json", "bundle.json"])
def test_missing_files_are_named(toy: Path, relative: str) -> None:
    (toy / relative).unlink()
    with pytest.raises(InputError, match=Path(relative).name):
        read_bundle(toy)


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "unknown key": (lambda m: m.update(sises=[1]), "sises.*did you mean 'sizes'"),
    "missing key": (lambda m: m.pop("family"), "family"),
    "wrong type": (lambda m: m.update(name=3), "name"),
    "unknown default": (lambda m: m["stages"][2]["defaults"].update(step=3), "step"),
    "newer schema": (lambda m: m.update(schema=99), "newer t2i"),
    "older schema": (lambda m: m.update(schema=0), "schema"),
    "unknown kind": (lambda m: m["stages"][0].update(kind="magic"), "magic"),
    "path out": (lambda m: m["stages"][0].update(folder="../clip"), "plain file name"),
    "file out": (lambda m: m["files"].update({"../x": "0"}), "plain file name"),
    "two of a name": (lambda m: m["stages"][0].update(name="base"), "same name"),
    "unlisted": (lambda m: m["files"].pop("base/config.json"), "does not list it"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_strange_manifests(toy: Path, name: str) -> None:
    change, sentence = CHANGES[name]
    manifest = json.loads((toy / "bundle.json").read_text())
    change(manifest)
    (toy / "bundle.json").write_text(json.dumps(manifest))
    with pytest.raises(InputError, match=sentence):
        read_bundle(toy)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1, "a": 2}', '{"a": NaN}', "\xff"])
def test_manifests_that_are_no_json(toy: Path, text: str) -> None:
    (toy / "bundle.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(InputError, match=r"bundle\.json"):
        read_bundle(toy)


def test_a_name_is_found_where_it_should_be(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    (tmp_path / "home" / "models").mkdir(parents=True)
    toy.rename(tmp_path / "home" / "models" / "toy")
    monkeypatch.chdir(tmp_path)
    assert resolve("toy") == tmp_path / "home" / "models" / "toy"
    assert resolve("home/models/toy") == Path("home/models/toy")
    assert resolve("home/models/toy/bundle.json") == Path("home/models/toy")
    assert "toy" in {m.name for m in list_models()}
    with pytest.raises(UnavailableError, match="there is no model 'toi'") as caught:
        resolve("toi")
    assert "toy" in caught.value.hint
    for name in ("", "..x", "no/such", "a\0b", "/no/such"):
        with pytest.raises(UnavailableError):
            resolve(name)


def test_a_damaged_model_is_listed_with_its_fault(toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("T2I_HOME", str(tmp_path))
    (tmp_path / "models").mkdir()
    toy.rename(tmp_path / "models" / "toy")
    (tmp_path / "models" / "toy" / "bundle.json").write_text("{")
    (model,) = [m for m in list_models() if m.name == "toy"]
    assert model.manifest is None
    assert "bundle.json" in (model.fault or "")
