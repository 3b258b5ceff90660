"""What programs may rely on: the JSON Schema of the records, and the error codes, both ways."""

from __future__ import annotations

import ast
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import t2i
from t2i.cli.app import run
from t2i.errors import CODES, T2IError
from t2i.media.images import read_metadata, save_image
from t2i.media.record import Record
from t2i.sampling import SamplingConfig
from t2i.store.bundle_writing import write_bundle
from t2i.store.manifest import Manifest, StageEntry

Draw = Callable[..., tuple[list[str], str]]
ROOT = Path(__file__).parents[2]
SCHEMA = json.loads((ROOT / "docs" / "schema" / "records-1.json").read_text("utf-8"))
CAT = "a cat in the snow"

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")


def validator(name: str = "") -> Any:
    schema = {**SCHEMA, "$ref": f"#/$defs/{name}"} if name else SCHEMA
    if name:
        schema.pop("anyOf")
    return jsonschema.Draft202012Validator(schema)


def records(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> list[dict[str, Any]]:
    got = run([*args, "--json"])
    out, err = capsys.readouterr()
    assert got == code, err
    return [json.loads(line) for line in out.splitlines()]


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$defs"]["schema"]["const"] == 1


def test_every_record_follows_the_schema(studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = ["sample", CAT, "--model", "tiny", "--device", "cpu", "--size", "16", "--seed", "7"]
    (studio / "no.png").write_text("no picture")
    shutil.copytree(studio.parent / "home" / "models" / "tiny", studio / "hurt")
    (studio / "hurt" / "tokenizer.json").write_text("{}")
    cases: list[tuple[list[str], int, list[str]]] = [
        ([*draw, "-n", "2", "--keep-stages", "--threshold", "0.9"], 0, ["picture"] * 2),
        ([*draw, "-n", "2", "--threshold", "0.9"], 0, ["picture"] * 2),
        ([*draw, "--no-prompt-metadata", "-o", "p.png"], 0, ["picture"]),
        ([*draw, "--sweep", "steps=1,2", "--grid", "-o", "s"], 0, ["picture"] * 2 + ["sheet"] * 2),
        (["sample", "--replay", "p.png", "--device", "cpu"], 3, []),
        (["sample", CAT, "--replay", "p.png", "--device", "cpu"], 0, ["replay"]),
        (["info", "p.png"], 0, ["info"]),
        (["info", "no.png"], 3, []),
        (["models", "list"], 0, ["model"] * len(_models(capsys))),
        (["models", "show", "tiny"], 0, ["shown"]),
        (["models", "verify", "tiny", "hurt", "nowhere"], 3, ["verified"] * 3),
        (["sample", "", "--size", "16"], 2, []),
    ]
    for args, code, kinds in cases:
        *made, envelope = records(capsys, *args, code=code)
        assert len(made) == len(kinds), args
        for record, kind in zip(made, kinds, strict=True):
            validator(kind).validate(record)
            validator().validate(record)
        validator("envelope").validate(envelope)
        assert envelope["pictures"] == sum(kind in ("picture", "info") for kind in kinds)
    for line in (studio / "out" / "manifest.jsonl").read_text("utf-8").splitlines():
        validator("record").validate(json.loads(line))


def _models(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return records(capsys, "models", "list")[:-1]


def test_the_schema_refuses_what_is_no_record(studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draw = ["sample", CAT, "--model", "tiny", "--device", "cpu", "--size", "16", "--seed", "7"]
    picture, envelope = records(capsys, *draw)
    for change in ({"seed": -1}, {"key": "x"}, {"size": [16]}, {"skipped": "no"}, {"schema": 2}, {"weights": None}):
        assert not validator("picture").is_valid({**picture, **change}), change
    for name in ("path", "key", "seconds", "batch", "settings"):
        assert not validator("picture").is_valid({key: value for key, value in picture.items() if key != name}), name
    for change in ({"ok": False}, {"error": {"code": "usage", "message": "x", "hint": ""}}, {"more": 1}):
        assert not validator("envelope").is_valid({**envelope, **change}), change


# Error codes, both ways ---------------------------------------------------------------------------------


def scores(place: Path) -> Iterator[tuple[str, list[str]]]:
    """The codes of `t2i score`, as :func:`cases`; "" stands before a command that must succeed first."""
    prompts = [CAT, "a red apple", "a zebra next to a house", "two penguins", "一只猫", "two cats"]
    (place / "six.txt").write_text("\n".join(prompts), "utf-8")
    (place / "two.txt").write_text("\n".join(prompts[:2]), "utf-8")
    eye = ["--device", "cpu", "--extractor", "clip:tiny"]
    draw = ["--model", "tiny", "--size", "16", "-n", "2", *eye]
    yield "metric", ["score", "--suite", "six.txt", "--extractor", "open_clip:ViT-B-32"]
    yield "", ["score", "--suite", "six.txt", *draw, "--save-baseline", "six.json"]
    yield "", ["score", "--suite", "two.txt", *draw, "--save-baseline", "two.json"]
    yield "inconclusive", ["score", "--suite", "two.txt", *draw, "--baseline", "two.json", "--strict"]
    kept = json.loads((place / "six.json").read_text("utf-8"))
    (place / "edited.json").write_text(json.dumps({**kept, "recipe": {**kept["recipe"], "suite": "x"}}))
    yield "recipe", ["score", "--suite", "six.txt", *draw, "--baseline", "edited.json"]
    folder = place / "scores" / "six-tiny"
    one = next(folder.glob("*.png"))
    yield "few", ["score", str(one), "--against", str(folder), *eye]
    from PIL import Image

    for path in folder.glob("*.png"):  # a generator that draws one grey picture
        path.with_suffix(".txt").write_text(read_metadata(path)["t2i"]["prompt"], "utf-8")
        save_image(Image.new("RGB", (16, 16), "grey"), path)
    yield "gate", ["score", str(folder), "--baseline", "six.json", *eye]


def cases(place: Path, patch: pytest.MonkeyPatch) -> Iterator[tuple[str, list[str]]]:
    """(code, arguments) for each code that a command ends with; what cannot be provoked by arguments and files is
    put in the way of the engine with ``patch``."""
    from t2i.pipeline import Pipeline

    draw = ["--model", "tiny", "--device", "cpu", "--size", "16"]
    (place / "empty").mkdir()
    (place / "no.png").write_text("no picture")
    info = PngInfo()
    info.add_text("t2i", "{}")
    Image.new("RGB", (8, 8)).save(place / "forged.png", pnginfo=info)
    (place / "p.txt").write_bytes(b"a\xff\xfe")
    shutil.copytree(place.parent / "home" / "models" / "tiny", place / "hurt")
    weights = place / "hurt" / "base" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    write_mismatched(place / "misfit")
    yield "usage", ["sample", CAT, "-n", "0"]
    yield "config", ["train", "--set", "base.lr=fast", "--dry-run"]
    yield "prompt", ["sample", ""]
    yield "input", ["sample", "-f", "p.txt"]
    yield "image", ["info", "no.png"]
    yield "mark", ["info", "forged.png"]
    yield "bundle", ["sample", CAT, "--model", "hurt", "--device", "cpu"]
    yield "mismatch", ["sample", CAT, "--model", "misfit", "--device", "cpu"]
    yield "data", ["train", "--data", "empty", "--out", "new", "--device", "cpu"]
    yield "output", ["sample", CAT, *draw, "-o", "/proc/x"]
    yield "model", ["sample", CAT, "--model", "smoll"]
    yield "device", ["sample", CAT, "--model", "tiny", "--device", "cuda:99"]
    with patch.context() as m:
        m.setitem(sys.modules, "c2pa", None)
        yield "dependency", ["sample", CAT, *draw, "--sign-cert", "c.pem", "--sign-key", "k.pem"]
    real, load = Pipeline.sample, Pipeline.load
    with patch.context() as m:
        m.setattr(Pipeline, "load", lambda *args, **kw: torch.empty(1 << 60))
        yield "memory", ["sample", CAT, *draw, "-o", "m"]
    with patch.context() as m:
        m.setattr(Pipeline, "load", lambda *args, **kw: 1 // 0)
        yield "internal", ["sample", CAT, *draw, "-o", "i"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    with patch.context() as m:
        m.setattr(Pipeline, "load", lambda *args, **kw: (os.kill(os.getpid(), signal.SIGINT), load(*args, **kw))[1])
        yield "interrupted", ["sample", CAT, *draw, "-o", "s"]
    signal.signal(signal.SIGINT, before)

    def bad(*args: Any, **kw: Any) -> Any:
        made = real(*args, **kw)
        with torch.inference_mode():
            made.images[0] = float("nan")
        return made

    with patch.context() as m:
        m.setattr(Pipeline, "sample", bad)
        yield "partial", ["sample", CAT, *draw, "-n", "2", "-o", "n"]


def write_mismatched(folder: Path) -> None:
    """A bundle whose base is as wide as its config says, and whose prior is not: written past the checks."""
    entry = StageEntry("base", "base", "base", SamplingConfig(steps=4, guidance=1.5))
    config = {"widths": {"cond_dim": 0, "text_dim": 8, "size": 64}}
    write_bundle(
        folder, Manifest("unclip", "misfit", (entry,), (64,)), {"base": (config, {"w": torch.zeros(1)})}, "{}", "x"
    )
    table = json.loads((folder / "bundle.json").read_text())
    table["sizes"] = [32]
    (folder / "bundle.json").write_text(json.dumps(table))


def test_every_code_is_raised(
    studio: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each code, from the envelope of a command, with the exit code that it is registered under."""
    from t2i.store import registry

    seen = set()
    for name, args in chain(cases(studio, monkeypatch), scores(studio)):
        envelope = records(capsys, *args, code=CODES[name][0] if name else 0)[-1]
        if name:
            assert envelope["error"]["code"] == name, args
            seen.add(name)
    monkeypatch.setattr(registry, "roots", lambda: [])  # no weights of a judge anywhere
    with pytest.raises(T2IError) as caught:
        registry.resolve_judge()
    seen.add(caught.value.code)
    left = set(CODES) - seen
    assert not left, f"no test raises {left}: add a case"


def test_every_code_that_is_raised_is_registered() -> None:
    """Codes are string literals: the third argument of an error, its code=, or a class' default_code."""
    used: set[str] = set()
    for path in Path(t2i.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "id", getattr(node.func, "attr", ""))
                words = [k.value for k in node.keywords if k.arg == "code"] if name != "Exit" else []
                words += node.args[2:3] if name.endswith("Error") else []
                used |= {w.value for w in words if isinstance(w, ast.Constant) and isinstance(w.value, str)}
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                if any(getattr(target, "id", "") == "default_code" for target in targets):
                    assert isinstance(node.value, ast.Constant)
                    used.add(str(node.value.value))
    assert used == set(CODES), f"not registered: {used - set(CODES)}; raised nowhere: {set(CODES) - used}"


def test_models_verify_looks_at_every_model(studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        shutil.copytree(studio.parent / "home" / "models" / "tiny", studio / name)
        (studio / name / "base" / "config.json").write_text("{}")
    assert run(["models", "verify", "a", "nowhere", "tiny", "b"]) == 3
    out, err = capsys.readouterr()
    assert out == "tiny: whole, 10 files\n"
    assert "a/base/config.json" in err
    assert "b/base/config.json" in err
    assert "there is no model 'nowhere'" in err
    assert "3 of 4 models cannot be used" in err


def test_info_of_pictures_that_say_little(studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save("bare.png")
    assert run(["info", "bare.png"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("bare.png: PNG, 8x8\nmarks:\n")
    assert out.count(": absent\n") == 3 and "valid" not in out
    assert err == ""
    record = Record("0" * 32, "sample", "[/red]\x1b[31m\u202e", 7, "m", "0" * 64, (8, 8))
    save_image(Image.new("RGB", (8, 8)), Path("odd.png"), record)
    assert run(["info", "odd.png"]) == 0
    out, _ = capsys.readouterr()
    assert "prompt: [/red]\\x1b[31m\\u202e" in out
    assert "\x1b" not in out
