"""`t2i models` and the hub: pull, list, show, verify, rm, as a user and as a script see them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import Hub, Repo
from safetensors.torch import save

from t2i.cli.app import run
from t2i.store.bundle_writing import share_stage
from t2i.store.pulled import LOCK, pulled_models

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "records-1.json").read_text("utf-8"))
Say = Callable[..., tuple[list[str], str]]
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
}
FILES = {
    "model_index.json": json.dumps(INDEX).encode(),
    "README.md": b"# The card\n" + b"line\n" * 100,
    "unet/config.json": b"{}",
    "unet/diffusion_pytorch_model.safetensors": save({"w": torch.ones(300, 10), "b": torch.ones(6).half()}),
    "scheduler/scheduler_config.json": b"{}",
}


@pytest.fixture
def say(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Say:
    """`t2i models …` in this process: (lines of stdout, stderr). Checks the exit code."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")

    def say(*args: str, code: int = 0) -> tuple[list[str], str]:
        got = run(["models", *args])
        out, err = capsys.readouterr()
        assert got == code, err
        assert "Traceback" not in err
        return out.splitlines(), err

    return say


def record(lines: list[str]) -> dict[str, Any]:
    """The only record before the envelope."""
    first, envelope = map(json.loads, lines)
    assert envelope["ok"]
    validator = pytest.importorskip("jsonschema").Draft202012Validator(SCHEMA)
    validator.validate(first)
    validator.validate(envelope)
    return first


def test_pull_tells_before_it_fetches(hub: Hub, say: Say) -> None:
    repo = hub.add("acme/painter", Repo(FILES, licence="openrail++", gated=False))
    out, err = say("pull", "acme/painter", "--dry-run")
    assert out == [] and f"acme/painter at main is commit {repo.commit}" in err
    assert "licence: openrail++" in err and "5 files, 0.0 MB, of which 0.0 MB to fetch" in err
    assert hub.fetched() == ["model_index.json"] and pulled_models() == []
    out, err = say("pull", "acme/painter")
    (model,) = pulled_models()
    assert out == [str(model.path)] and "acme/painter is pulled: --model acme/painter" in err
    out, err = say("pull", "acme/painter", "-q")
    assert out == [str(model.path)] and err == ""


def test_pull_says_what_a_short_name_stands_for(hub: Hub, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("stabilityai/sd-turbo", Repo(FILES, licence="", gated=True))
    assert "is gated" in say("pull", "sd-turbo", "--dry-run", code=4)[1]
    monkeypatch.setenv("HF_TOKEN", "good")
    err = say("pull", "sd-turbo", "--dry-run")[1]
    assert "sd-turbo stands for stabilityai/sd-turbo" in err
    assert "licence: not said; read its card, gated" in err


def test_json(hub: Hub, say: Say) -> None:
    repo = hub.add("acme/painter", Repo(FILES))
    told = record(say("pull", "acme/painter", "--json", "--dry-run")[0])
    assert told["dry_run"] and told["fetched"] == 0
    pulled = record(say("pull", "acme/painter@main", "--json")[0])
    assert pulled["fetched"] == pulled["bytes"] == sum(map(len, FILES.values()))
    assert (pulled["commit"], pulled["licence"], pulled["gated"]) == (repo.commit, "openrail++", False)
    assert record(say("pull", "acme/painter", "--json")[0])["fetched"] == 0
    shown = record(say("show", "acme/painter", "--json")[0])
    assert shown["class"] == "StableDiffusionPipeline" and shown["lock"]["commit"] == repo.commit
    assert shown["parameters"] == 3006 and shown["parts"][0]["types"] == {"F32": 3000, "F16": 6}
    assert shown["can"] == ["t2i sample", "--init", "t2i inpaint"] and shown["fault"] is None
    listed = [json.loads(line) for line in say("list", "--json")[0][:-1]]
    (mine,) = [r for r in listed if r["source"] == "hub"]
    assert mine["name"] == f"acme/painter@{repo.commit[:12]}" and mine["licence"] == "openrail++" and mine["bytes"] > 0
    verified = record(say("verify", "acme/painter", "--json")[0])
    assert verified["files"] == 5 and verified["compared"]
    removed = record(say("rm", "acme/painter", "--json")[0])
    assert removed["removed"] == mine["name"] and removed["bytes"] > pulled["bytes"]
    assert pulled_models() == []


def test_show_and_list_read_well(hub: Hub, say: Say) -> None:
    repo = hub.add("acme/painter", Repo(FILES))
    say("pull", "acme/painter")
    hub.log.clear()
    text = "\n".join(say("show", "acme/painter")[0])
    assert "acme/painter: StableDiffusionPipeline" in text and "licence: openrail++" in text
    assert "unet (diffusers.UNet2DConditionModel): 3.0K parameters, f16, f32, 0.0 MB" in text
    assert "scheduler (diffusers.DDIMScheduler)\n" in text and "# The card" in text and "more lines in" in text
    assert repo.commit in text
    assert "acme/painter@" in "\n".join(say("list")[0])
    assert not hub.log


def test_verify_finds_what_is_wrong(hub: Hub, say: Say) -> None:
    hub.add("acme/painter", Repo(FILES))
    folder = Path(say("pull", "acme/painter")[0][0])
    assert say("verify", "acme/painter")[0] == ["acme/painter: whole, 5 files"]
    (folder / "unet" / "more.safetensors").write_bytes(FILES["unet/diffusion_pytorch_model.safetensors"])
    assert "more.safetensors is not in t2i.lock.json" in say("verify", "acme/painter", code=3)[1]
    (folder / "unet" / "more.safetensors").unlink()
    (folder / "scheduler" / "scheduler_config.json").write_text("[]")
    assert "is not the file that was pulled" in say("verify", code=3)[1]
    (folder / "scheduler" / "scheduler_config.json").unlink()
    assert "cannot be read" in say("verify", "acme/painter", code=3)[1]
    (folder / LOCK).unlink()
    assert "unfinished" in say("verify", code=3)[1]
    assert "the pull of acme/painter is unfinished" in "\n".join(say("list")[0])
    say("pull", "acme/painter")
    say("verify", "acme/painter")


def test_verify_of_a_folder_that_nobody_pinned(say: Say) -> None:
    for path, data in FILES.items():
        Path("plain", path).parent.mkdir(parents=True, exist_ok=True)
        Path("plain", path).write_bytes(data)
    Path("plain/unet/config.json").write_text('{"sample_size": 64}')
    assert say("verify", "plain")[0] == [
        "plain: readable, 4 files; it was not pulled, so there are no hashes to compare them with"
    ]
    told = record(say("verify", "plain", "--json")[0])
    assert told["ok"] and not told["compared"] and told["files"] == 4
    Path("plain/unet/diffusion_pytorch_model.safetensors").write_bytes(FILES["README.md"])
    assert "diffusion_pytorch_model.safetensors" in say("verify", "plain", code=3)[1]


def test_refusals(hub: Hub, say: Say) -> None:
    assert "no model of the hub" in say("pull", "a b", code=2)[1]
    assert "Did you mean sdxl" in say("pull", "sdx", code=2)[1]
    assert "--variant" in say("pull", "sdxl", "--variant", "../x", code=2)[1]
    assert "has no acme/nothing" in say("pull", "acme/nothing", code=4)[1]
    assert "is not here" in say("rm", "acme/nothing", code=4)[1]
    assert "is not here" in say("show", "acme/nothing", code=4)[1]
    assert "came with t2i" in say("rm", "small", code=2)[1]
    assert not hub.log[1:]


def test_offline(hub: Hub, say: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("TRANSFORMERS_OFFLINE", "0")
    assert "--offline" in say("pull", "sdxl", "--offline", code=4)[1]
    assert not hub.log


def test_rm_of_bundles(tiny: Path, blind: Path, tmp_path: Path, say: Say) -> None:
    models = tmp_path / "home" / "models"
    for folder in (tiny, blind):
        shutil.copytree(folder, models / folder.name)
    shutil.copytree(blind, models / "third")
    share_stage(models / "third", "text", "blind")
    shutil.copytree(tiny, "mine")
    assert "left alone" in say("rm", "mine", "--yes", code=2)[1]
    assert "needed by third" in say("rm", "blind", "--yes", code=2)[1]
    assert "Say --yes" in say("rm", "tiny", code=2)[1]
    assert "tiny: removed" in say("rm", "tiny", "--yes")[0][0]
    assert sorted(path.name for path in models.iterdir()) == ["blind", "third"]
    (models / "linked").symlink_to(Path("mine").absolute())
    assert "is a link" in say("rm", "linked", "--yes", code=3)[1]
    assert Path("mine/bundle.json").is_file()


def test_drawing_names_the_pull(hub: Hub, say: Say, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["sample", "a cat", "--model", "acme/painter"]) == 4
    assert "t2i models pull acme/painter" in capsys.readouterr().err
    assert run(["sample", "a cat", "--model", "flux-schnell@v2"]) == 4
    assert "t2i models pull black-forest-labs/FLUX.1-schnell@v2" in capsys.readouterr().err
    assert not hub.log
