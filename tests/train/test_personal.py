"""Personal models: what they learn, exact resume, the data folder, and the command."""

from __future__ import annotations

import itertools
import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor, nn

from t2i.cli.app import run
from t2i.data.folder import FolderSource
from t2i.errors import InputError, UsageError
from t2i.nets.lora import Adapter, matrices
from t2i.nets.sr_unet import SRUNet, SRUNetConfig
from t2i.sampling import SamplingConfig
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import update_stage
from t2i.store.lora import read_lora
from t2i.store.manifest import StageEntry
from t2i.text.words import KnownWords
from t2i.train.log import LOG, read_log
from t2i.train.loop import fit
from t2i.train.personal import _objective, train_personal
from t2i.train.personal.objective import STAGE, PersonalObjective, _without
from t2i.train.personal.pool import known_captions
from t2i.train.personal.recipe import read_recipe
from t2i.train.recipe import Recipe
from t2i.train.run import Pictures, Run
from t2i.train.state import TENSORS

SMALL = {
    "batch": "2",
    "views": "6",
    "pasted": "4",
    "pool": "4",
    "kept": "2",
    "log_every": "1",
    "save_every": "2",
    "warmup": "1",
}
SETS = [f"{key}={value}" for key, value in SMALL.items()]


@pytest.fixture(scope="module")
def sharp(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny bundle with an upsampler that reads the image embedding, and with words of the built-in world."""
    folder = tmp_path_factory.mktemp("sharp") / "sharp"
    shutil.copytree(tiny, folder)
    net = SRUNetConfig(
        channels=(8, 16), down=(1, 1), up=(1, 1), emb_dim=16, cond_dim=32, z_grid=0, z_cells=0, time_features=16
    )
    config: dict[str, Any] = {"design": "sr_unet", "net": net.to_dict(), "prediction": "x0"}
    config |= {"process": {"kind": "flow"}, "widths": {"low": 16, "size": 64, "cond_dim": 32}}
    torch.manual_seed(0)
    entry = StageEntry("upsampler64", "upsampler", "upsampler64", SamplingConfig(steps=1, noise=0.1))
    words = ["a red apple in the snow", "two apples at the beach", "雪地里有一个红色的苹果", "海滩上的苹果"]
    notes = {"words": KnownWords.collect([*words, "a cat on a green background", "一只绿色的猫"])}
    update_stage(folder, entry, (config, SRUNet(net).state_dict()), notes=notes)
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Three pictures of a red disc, of no captions."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        picture = Image.new("RGB", (70, 64 + i), (0, 90 * i, 255 - 90 * i))
        picture.paste((250, 20, 20), (20 + i, 20, 45 + i, 45))
        picture.save(folder / f"{i}.png")
    return folder


def train(photos: Path, bundle: Path, out: Path, steps: int = 4, *more: str, **rest: Any) -> Any:
    return train_personal(photos, "<mine>", read_bundle(bundle), out, [*SETS, *more], steps=steps, **rest)


def test_a_file_is_written_that_says_what_it_is(photos: Path, sharp: Path, tmp_path: Path) -> None:
    out, events = tmp_path / "mine.safetensors", list[dict[str, Any]]()
    train(photos, sharp, out, report=events.append)
    facts = read_lora(str(out)).personal
    assert facts is not None and (facts.token, facts.model, facts.rank) == ("<mine>", "tiny", 16)
    assert facts.training["pictures"] == 3 and facts.training["steps"] == 4
    digests = {e.name: read_bundle(sharp).manifest.digest(e) for e in read_bundle(sharp).manifest.stages}
    assert facts.weights == digests
    with safe_open(out, "pt") as file:
        stages = {name.partition(".")[0] for name in file.keys()}  # noqa: SIM118
    assert stages == {"word", "prior", "base", "upsampler64"}
    assert [e["event"] for e in events if e["event"] in ("begins", "written")] == ["begins", "written"]
    records = list(read_log(tmp_path / "mine.training/.train/lora" / LOG))
    assert [r["step"] for r in records if r["event"] == "step"] == [1, 2, 3, 4]
    assert all({"prior", "base", "lost"} <= r.keys() for r in records if r["event"] == "step")
    assert (tmp_path / "mine.training/.train/lora/sheets/0000004.png").is_file()


def test_it_learns_the_pictures_and_holds_on_to_the_rest(photos: Path, sharp: Path, tmp_path: Path) -> None:
    """The loss of the pictures falls, at the same examples and noise before and after. With a large weight on it, what
    the model drew before changes less."""
    lost = {}
    for keep in ("0.0", "30.0"):
        made = objective(photos, sharp, tmp_path / keep, keep=keep, steps="24", lr="1e-2", precision="fp32")
        assert made.fill_pool()
        made.begin()
        before = losses(made)
        fit(made, resume=False)
        after = losses(made)
        lost[keep] = after["lost"]
        for part in ("prior", "base"):
            assert after[part] < 0.7 * before[part] or keep != "0.0", (part, before[part], after[part])
    assert before["lost"] == 0 and lost["30.0"] < 0.5 * lost["0.0"]


def losses(made: PersonalObjective) -> dict[str, float]:
    """The means over 16 batches after the training's own."""
    with torch.no_grad():
        rows = [made.loss(1000 + i)[1] for i in range(16)]
    return {part: sum(row[part] for row in rows) / len(rows) for part in rows[0]}


def test_a_training_that_was_stopped_goes_on_to_the_same_file(photos: Path, sharp: Path, tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole.safetensors", tmp_path / "halves.safetensors"
    train(photos, sharp, whole, 5)
    asked = itertools.count()
    train(photos, sharp, halves, 5, stop=lambda: next(asked) > 5)
    assert not halves.exists() and (tmp_path / "halves.training/.train/lora" / TENSORS).is_file()
    train(photos, sharp, halves, 5, resume=True)
    tensors = []
    for path in (whole, halves):
        with safe_open(path, "pt") as file:
            tensors.append({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    assert all(torch.equal(t, tensors[1][name]) for name, t in tensors[0].items())
    with pytest.raises(InputError, match="another token"):
        train_personal(photos, "<other>", read_bundle(sharp), halves, SETS, steps=9, resume=True)
    with pytest.raises(InputError, match="network of another size"):
        train(photos, sharp, halves, 9, "rank=4", resume=True)


def test_what_is_there_is_not_written_over(photos: Path, sharp: Path, tmp_path: Path) -> None:
    out = tmp_path / "mine.safetensors"
    out.write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already"):
        train(photos, sharp, out)
    with pytest.raises(InputError, match="no checkpoint to resume"):
        train(photos, sharp, out, resume=True)
    with pytest.raises(UsageError, match="not the name of a safetensors file"):
        train(photos, sharp, tmp_path / "mine.pt")
    assert out.read_bytes() == b"mine" and not (tmp_path / "mine.training").exists()
    assert train(photos, sharp, out, dry_run=True, overwrite=True)["stages"][0]["stage"] == "lora"
    train(photos, sharp, out, 1, overwrite=True)
    assert read_lora(str(out)).personal


def test_captions_name_the_thing_or_are_left_out(photos: Path, sharp: Path, tmp_path: Path) -> None:
    (photos / "0.txt").write_text("a <Mine> in the snow\n")
    train(photos, sharp, tmp_path / "a.safetensors", 1)
    (photos / "1.txt").write_text("a cat in the snow\n")
    with pytest.raises(InputError, match=r"the caption of 1\.png does not say <mine>"):
        train(photos, sharp, tmp_path / "b.safetensors", 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: shutil.rmtree(folder), "does not exist"),
        (lambda folder: [p.unlink() for p in folder.iterdir()], "holds no PNG"),
        (lambda folder: [p.write_bytes(p.read_bytes()[:60]) for p in folder.iterdir()], "can be read"),
    ],
)
def test_a_folder_without_a_picture_is_refused(
    photos: Path, sharp: Path, tmp_path: Path, spoil: Callable[[Path], object], message: str
) -> None:
    spoil(photos)
    with pytest.raises(InputError, match=message) as caught:
        train(photos, sharp, tmp_path / "mine.safetensors")
    assert caught.value.code == "data" and not (tmp_path / "mine.training").exists()


def test_one_picture_will_do_and_a_broken_one_is_left_out(photos: Path, sharp: Path, tmp_path: Path) -> None:
    for name in ("0.png", "1.png"):
        (photos / name).write_bytes((photos / name).read_bytes()[:60])
    events: list[dict[str, Any]] = []
    train(photos, sharp, tmp_path / "mine.safetensors", 1, report=events.append)
    assert {"event": "data", "pictures": 1, "broken": 2, "broken_files": "0.png, 1.png"} in events
    assert any(event["event"] == "one picture" for event in events)


class Perfect(nn.Module):
    """The student that has learned all of a prior or base: its network computes the guided estimate."""

    def __init__(self, net: Any, weight: float) -> None:
        super().__init__()
        self.net, self.config, self.weight = net, net.config, weight

    def forward(self, x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
        uncond, made = self.net(x_t, t, _without(cond)), self.net(x_t, t, cond)
        out: Tensor = uncond + self.weight * (made - uncond)
        return out


@pytest.mark.parametrize("name", ["prior", "base"])
def test_a_student_learns_what_its_teacher_would(photos: Path, sharp: Path, tmp_path: Path, name: str) -> None:
    """At the same examples its loss is that of its teacher, whose estimate its own contains; read as the teacher's, it
    would be far from it."""
    losses = []
    for weight, said in ((None, None), (3.0, 3.0), (3.0, None)):
        made = objective(photos, sharp, tmp_path)
        stage = made.pipeline.stages[name]
        if weight is not None:
            stage.net = made.nets[name] = Perfect(stage.net, weight)
            made.module.adapters[name] = Adapter(stage.net, matrices(stage.net), 4)
        stage.defaults = replace(stage.defaults, distilled=said)
        made.pool.rehearse()
        losses.append(made.loss(1)[1][name])
    teacher, student, unread = losses
    assert student == pytest.approx(teacher, rel=1e-4)
    assert abs(unread - teacher) > 2e-3 * teacher  # twenty times the tolerance above


def objective(photos: Path, bundle: Path, tmp_path: Path, **more: str) -> PersonalObjective:
    """Of the pictures, not yet begun."""
    recipe, plain = read_recipe(SMALL | more), Recipe(name=STAGE)
    pictures = Pictures(plain, str(photos))
    run_ = Run(plain, tmp_path, pictures, torch.device("cpu"), lambda record: None, lambda: False, False)
    source = FolderSource(photos, lambda record: None, without_caption=True)
    return _objective(run_, recipe, source, "<mine>", read_bundle(bundle))


def test_a_student_gets_a_personal_model(photos: Path, sharp: Path, tmp_path: Path) -> None:
    folder, out = tmp_path / "student", tmp_path / "mine.safetensors"
    shutil.copytree(sharp, folder)
    bundle = read_bundle(folder)
    entry = bundle.manifest.stage("prior")
    entry = replace(entry, defaults=replace(entry.defaults, distilled=entry.defaults.guidance))
    update_stage(folder, entry, bundle.load_stage("prior"))
    train(photos, folder, out, 2)
    assert read_lora(str(out)).personal


def test_the_thing_is_pasted_into_places_that_the_model_knows(photos: Path, sharp: Path, tmp_path: Path) -> None:
    """Behind the views come the pasted ones: red in the middle, at their own embedding, with a caption of the place."""
    made = objective(photos, sharp, tmp_path, pasted="5")
    assert made.fill_pool() and made.pool.views is not None
    small, z, captions = made.pool.views.small[6:], made.pool.views.z[6:], made.pool.views.captions[6:]
    assert len(made.pool.cutouts) == 3 and len(small) == 5
    red = torch.tensor([250, 20, 20])[:, None] / 127.5 - 1
    assert (small[:, :, 7:9, 7:9].flatten(2) - red).abs().max() < 0.15
    assert torch.allclose(z, made.pipeline.embed(small))
    known = [text for _, forms in made.pool.empty for text in forms]
    assert {text for each in captions for text in each.split("\n")} <= {text.format("<mine>") for text in known}


def test_embeddings_are_redrawn_more_and_more(photos: Path, sharp: Path, tmp_path: Path) -> None:
    made = objective(photos, sharp, tmp_path, redrawn="0.6", steps="100")
    made.pool.rehearse()
    assert made.pool.views is not None
    rows = made.pool.draw(made.pool.views, 200, torch.Generator().manual_seed(0))
    text, changed = made._read(rows.captions, made.module.word), made._changed()
    shares = []
    for step in (0, 15, 30, 90):
        told = made._told(changed, rows, text, step, torch.Generator().manual_seed(1))
        assert torch.allclose(told.norm(dim=-1), torch.ones(200), atol=1e-5) and not told.requires_grad
        shares.append(float((told - rows.z).norm(dim=-1).gt(1e-4).float().mean()))
    assert shares[0] == 0
    assert shares[1:] == pytest.approx([0.3, 0.6, 0.6], abs=0.1)


def test_a_model_without_clip_is_refused(photos: Path, blind: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has no CLIP and prior"):
        train(photos, blind, tmp_path / "mine.safetensors")


def test_what_is_kept_are_captions_of_known_words(sharp: Path) -> None:
    words = KnownWords.from_notes(read_bundle(sharp).manifest.notes)
    captions = known_captions(words, 8, seed=1)
    assert captions and not any(words.unknown(caption) for caption in captions)
    assert captions == known_captions(words, 8, seed=1)
    assert known_captions(KnownWords(frozenset()), 8, seed=1) == []


def test_the_command_and_what_draws_with_its_file(
    photos: Path, sharp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Train, draw, draw again (nothing to do), replay; the digest is in the record and the key."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sharp, tmp_path / "tiny")
    changes = [word for text in SETS for word in ("--set", text)]
    name = ["--model", "tiny", "--device", "cpu"]

    def t2i(*args: str, code: int = 0) -> tuple[list[str], str]:
        got = run([*args])
        out, err = capsys.readouterr()
        assert got == code, err
        return out.splitlines(), err

    asked = ["train", "lora", "--data", "photos", "--token", "<mine>", *name, "--steps", "2", *changes]
    lines, err = t2i(*asked)
    assert lines == ["mine.safetensors"]
    assert "lora: your thing was cut out of 3 of 3 pictures, to be pasted into other places" in err.splitlines()
    assert re.search(r"^lora: the new word starts out as '.+', the known word nearest to your pictures$", err, re.M)
    shown, _ = t2i("models", "show", "mine.safetensors")
    assert shown[0] == "mine: a personal model for tiny; prompts call its thing <mine>"
    assert json.loads(t2i("models", "show", "mine.safetensors", "--json")[0][0])["personal"]["token"] == "<mine>"
    draw = ["sample", "a <mine> in the snow", *name, "--size", "16", "--seed", "1"]
    (plain,), err = t2i(*draw)
    assert "mine" in err  # a word that is not known
    (mine,), err = t2i(*draw, "--lora", "mine.safetensors:0.9")
    assert mine != plain and Path(mine).read_bytes() != Path(plain).read_bytes() and "mine" not in err
    _, err = t2i(*draw, "--lora", "mine.safetensors:0.9")
    assert "1 picture" in err or "there" in err
    record = json.loads(t2i("info", mine, "--json")[0][0])["t2i"]
    (said,) = record["settings"]["lora"]
    assert said == {"name": "mine", "sha256": read_lora("mine.safetensors").sha256, "scale": 0.9}
    assert t2i("sample", "--replay", mine, "--model", "tiny", "--lora", "mine.safetensors")[0] == [f"{mine}: identical"]
    t2i("sample", "--replay", mine, "--model", "tiny", code=3)
    t2i("vary", mine, *name, "--size", "16", "--seed", "1", "--lora", "mine.safetensors")
    t2i("inpaint", mine, "a <mine>", "--box", "2,2,8,8", *name, "--seed", "1", "--lora", "mine.safetensors")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--token", "<mine>"], "needs --data"),
        (["--data", "photos"], "needs --token"),
        (["--data", "photos", "--token", "mine"], "angle brackets"),
        (["--data", "photos", "--token", "<mine>", "--recipe", "tiny"], "--recipe do not go together"),
        (["--data", "photos", "--token", "<mine>", "--set", "rnak=4"], "did you mean 'rank'"),
        (["--data", "photos", "--token", "<mine>", "--set", "rank=0"], "not from 1 to 256"),
    ],
)  # fmt: skip
def test_a_command_that_makes_no_sense(
    args: list[str], message: str, photos: Path, sharp: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert run(["train", "lora", *args, "--model", str(sharp)]) == 2
    assert message in capsys.readouterr().err
    assert run(["train", "base", "--token", "<mine>"]) == 2
    assert "--token is for t2i train lora" in capsys.readouterr().err
