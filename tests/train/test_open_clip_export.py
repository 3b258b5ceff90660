"""The exported CLIP, read by open_clip itself, says the same as ours."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from t2i.cli.app import run
from t2i.errors import InputError, UnavailableError, UsageError
from t2i.media.images import to_tensor
from t2i.nets.clip import Clip, ClipConfig
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import update_stage
from t2i.text.tokenizer import Tokenizer
from t2i.train.open_clip_export import export_open_clip

TEXTS = [
    "a cat in the snow",
    "一只猫在雪地里玩耍",
    "A ZEBRA & 2 penguins",
    "red " * 60,
    "ünknown ☃ words",
    "<end> of <start>",
]


def test_open_clip_reads_it_and_agrees(tiny: Path, tmp_path: Path) -> None:
    open_clip: Any = pytest.importorskip("open_clip")
    pytest.importorskip("transformers")
    bundle = read_bundle(tiny)
    export_open_clip(bundle, tmp_path / "clip")
    net, _, prepare = open_clip.create_model_and_transforms(f"local-dir:{tmp_path / 'clip'}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{tmp_path / 'clip'}")
    config, state = bundle.load_stage("clip")
    ours = Clip(ClipConfig.from_dict(config["net"]))
    ours.load_state_dict(state)
    ids, _ = Tokenizer.parse(bundle.tokenizer_json() or "", "").encode(TEXTS, ours.config.context)
    assert torch.equal(tokenizer(TEXTS), ids)
    net.eval()
    with torch.inference_mode():
        torch.testing.assert_close(net.encode_text(ids), ours.eval().encode_text(ids).pooled, atol=1e-4, rtol=1e-4)
        image = Image.effect_noise((16, 16), 90).convert("RGB")
        pixels = prepare(image)
        torch.testing.assert_close(pixels, to_tensor(image), atol=1e-5, rtol=0)
        torch.testing.assert_close(
            net.encode_image(pixels[None]), ours.encode_image(pixels[None]), atol=1e-4, rtol=1e-4
        )


def test_refusals(tiny: Path, blind: Path, tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="has no CLIP"):
        export_open_clip(read_bundle(blind), tmp_path / "no")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("keep me")
    with pytest.raises(InputError, match="is not empty"):
        export_open_clip(read_bundle(tiny), tmp_path / "full")
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        export_open_clip(read_bundle(tiny), tmp_path / "file")
    assert not (tmp_path / "no").exists() and len(list((tmp_path / "full").iterdir())) == 1


def test_cell_dim_is_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny, tmp_path / "cells")
    bundle = read_bundle(tmp_path / "cells")
    config, _ = bundle.load_stage("clip")
    net = replace(ClipConfig.from_dict(config["net"]), cell_dim=2)
    changed = {**config, "net": net.to_dict()}
    bundle = update_stage(tmp_path / "cells", bundle.manifest.stage("clip"), (changed, Clip(net).state_dict()))
    with pytest.raises(UsageError, match="cell_dim"):
        export_open_clip(bundle, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "clip"
    assert run(["models", "export", str(tiny), "--to", "open_clip", "-o", str(out), "--json"]) == 0
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    schema = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "records-1.json").read_text("utf-8"))
    pytest.importorskip("jsonschema").Draft202012Validator(schema).validate(first)
    assert set(first["files"]) == {path.name for path in out.iterdir()}
    assert run(["models", "export", str(tiny), "--to", "onnx", "-o", str(out)]) == 2
