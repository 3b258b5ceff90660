"""`t2i sample` around the engine: seeds, names, resuming, batches. A small engine of plain colours stands in
for the nets."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i.cli.app import run
from t2i.jobs.output_paths import MAX_SLUG, slug
from t2i.jobs.prompt_file import seed_of
from t2i.media.images import load_image, read_metadata
from t2i.sampling import SampleRequest, SamplingConfig
from t2i.store.bundle_writing import write_bundle
from t2i.store.manifest import Manifest, StageEntry
from t2i.text.words import KnownWords

ENTRIES = (
    StageEntry("clip", "clip", "clip"),
    StageEntry("base", "base", "base", SamplingConfig(steps=4, guidance=1.5)),
    StageEntry("upsampler", "upsampler", "upsampler", SamplingConfig(steps=1)),
)


class Engine:
    """Pictures of one colour, a function of the seed; `calls` remembers the seeds of every batch."""

    calls: list[list[int]]
    before: Callable[[list[int]], None]
    words = KnownWords(frozenset(["zyxt", "cat"]))

    @classmethod
    def load(cls, path: Path, device: str = "cpu", dtype: str = "float32", loras: Any = ()) -> Engine:
        return cls()

    def sample(self, prompts: list[str], seeds: list[int], request: SampleRequest, on_step: Any = None) -> Any:
        Engine.calls.append(seeds)
        Engine.before(seeds)
        on_step("base", 1, 4, torch.zeros(1))
        size = request.size or 64
        images = torch.stack([torch.full((3, size, size), (seed % 200) / 100 - 1) for seed in seeds])
        cut = [prompt[20:] if len(prompt) > 20 else None for prompt in prompts]
        return types.SimpleNamespace(
            images=images,
            stages={"base": images[:, :, :16, :16]},
            truncated=cut,
            unknown=[["zyx"]] * len(seeds),
        )


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    clip = {"embed_dim": 8, "text_dim": 8, "context": 8, "vocab": 8}
    configs = (clip, {"cond_dim": 0, "text_dim": 8, "size": 16}, {"low": 16, "size": 32})
    stages = {e.name: ({"widths": w}, {"w": torch.zeros(1)}) for e, w in zip(ENTRIES, configs, strict=True)}
    write_bundle(tmp_path / "toy", Manifest("unclip", "toy", ENTRIES, (16, 32)), stages, "{}", "card")
    module = types.ModuleType("t2i.pipeline")
    module.Pipeline = Engine  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "t2i.pipeline", module)
    monkeypatch.setattr(Engine, "calls", [], raising=False)
    monkeypatch.setattr(Engine, "before", lambda seeds: None, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def sample(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    assert run(["sample", "--model", "toy", "--device", "cpu", *args]) == code
    out, err = capsys.readouterr()
    return out.splitlines(), err


def test_seeds_names_and_metadata(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = sample(capsys, "A cat, in the snow!", "-n", "3", "--seed", "7")
    assert out == [f"out/a-cat-in-the-snow-{seed}.png" for seed in (7, 8, 9)]
    facts = read_metadata(place / out[1])
    assert facts["width"] == 32
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    record = facts["t2i"]
    assert (record["prompt"], record["seed"], record["model"]) == ("A cat, in the snow!", 8, "toy")
    assert record["settings"]["stages"] == {"base": {"steps": 4, "guidance": 1.5}, "upsampler": {"steps": 1}}
    assert load_image(out[1]).getpixel((0, 0)) == (10, 10, 10)
    assert err.count("the model has never read 'zyx'; near: zyxt") == 1


def test_a_random_seed_is_reported(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = sample(capsys, "一只猫")
    seed = int(err.split("seed ")[1].split()[0])
    assert out == [f"out/一只猫-{seed}.png"]


@pytest.mark.parametrize("target", ["a-cat-1.png", "nowhere.png"])
def test_a_link_to_nothing_takes_the_name(place: Path, capsys: pytest.CaptureFixture[str], target: str) -> None:
    (place / "out").mkdir()
    link = place / "out" / "a-cat-1.png"
    link.symlink_to(target)
    for _ in range(2):
        made, err = sample(capsys, "a cat", "--seed", "1")
        assert made == ["out/a-cat-1-2.png"] and "a-cat-1.png" in err and link.is_symlink()
    assert Engine.calls == [[1]]


def test_what_is_there_is_not_drawn_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, _ = sample(capsys, "a cat", "-n", "2", "--seed", "1")
    again, _ = sample(capsys, "a cat", "-n", "3", "--seed", "1")
    assert again == [*first, "out/a-cat-3.png"]
    assert Engine.calls == [[1, 2], [3]]
    other, _ = sample(capsys, "a cat", "--seed", "1", "--steps", "9")
    assert other == ["out/a-cat-1-steps-9.png"]
    assert sample(capsys, "a cat", "--seed", "1", "--steps", "9")[0] == other
    assert sample(capsys, "a cat", "--seed", "1", "--steps", "base=4")[0] == first[:1]  # the default, said aloud
    assert len(Engine.calls) == 3
    (place / "out" / "a-dog-1.png").write_bytes(b"somebody else's")
    assert sample(capsys, "a dog", "--seed", "1")[0] == ["out/a-dog-1-2.png"]
    assert sample(capsys, "a cat", "--seed", "1", "--steps", "9", "--overwrite")[0] == first[:1]
    assert not [p for p in (place / "out").iterdir() if "tmp" in p.name]


def test_prompt_files_share_batches_and_resume(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (place / "p.txt").write_text("\ufeffa cat\n\n# no\n  a dog \na cat\n", encoding="utf-8")
    out, _ = sample(capsys, "-f", "p.txt", "--batch", "2")
    seeds = [seed_of("a cat", 0), seed_of("a dog", 0), seed_of("a cat", 1)]
    assert Engine.calls == [seeds[:2], seeds[2:]]
    assert out == [f"out/{name}-{seed}.png" for name, seed in zip(("a-cat", "a-dog", "a-cat"), seeds, strict=True)]
    assert sample(capsys, "-f", "p.txt")[0] == out
    assert len(Engine.calls) == 2


def test_templates_sizes_stages_and_formats(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = (
        "a cat",
        "--seed",
        "5..6",
        "--size",
        "16",
        "--keep-stages",
        "-o",
        "{model}/{slug}_{index:03}_{n}.webp",
    )
    out, _ = sample(capsys, *args)
    assert out == ["toy/a-cat_000_0.webp", "toy/a-cat_001_1.webp"]
    assert load_image(out[0]).size == (16, 16)
    assert (place / "toy" / "a-cat_000_0.base.webp").is_file()
    assert "upsampler" not in read_metadata(out[0])["t2i"]["settings"]["stages"]
    assert sample(capsys, *args)[0] == out


def test_json(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for skipped in (False, True):
        out, _ = sample(capsys, "a [red] cat", "-n", "2", "--seed", "3", "--json", "--quiet")
        *records, envelope = [json.loads(line) for line in out]
        assert [(r["path"], r["seed"], r["skipped"]) for r in records] == [
            ("out/a-red-cat-3.png", 3, skipped),
            ("out/a-red-cat-4.png", 4, skipped),
        ]
        assert envelope == {
            "schema": 1, "ok": True, "command": "sample", "pictures": 2, "failed": 0, "error": None,
        }  # fmt: skip


def test_a_private_picture_is_known_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, _ = sample(capsys, "a secret cat", "--seed", "1", "--no-prompt-metadata", "-o", "x.png")
    assert b"secret" not in (place / "x.png").read_bytes()
    assert sample(capsys, "a secret cat", "--seed", "1", "-o", "x.png")[0] == out
    assert len(Engine.calls) == 1


def test_the_batch_halves_itself(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(seeds: list[int]) -> None:
        if len(seeds) > 2:
            raise MemoryError

    monkeypatch.setattr(Engine, "before", full)
    out, _ = sample(capsys, "a cat", "-n", "5", "--seed", "0")
    assert [len(call) for call in Engine.calls] == [5, 2, 3, 1, 2]
    assert [Path(p).stem for p in out] == [f"a-cat-{i}" for i in range(5)]
    monkeypatch.setattr(Engine, "before", lambda seeds: (_ for _ in ()).throw(MemoryError()))
    _, err = sample(capsys, "a dog", "-n", "2", code=4)
    assert "not enough memory for one picture" in err


def test_a_picture_of_no_numbers_is_skipped_and_counted(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Engine.sample

    def broken(self: Engine, *args: Any, **kw: Any) -> Any:
        samples = real(self, *args, **kw)
        samples.images[1] = float("nan")
        return samples

    monkeypatch.setattr(Engine, "sample", broken)
    out, err = sample(capsys, "a cat", "-n", "3", "--seed", "0", "--json", code=3)
    envelope = json.loads(out[-1])
    assert (envelope["pictures"], envelope["failed"], envelope["error"]["code"]) == (2, 1, "partial")
    assert sorted(p.name for p in (place / "out").glob("*.png")) == ["a-cat-0.png", "a-cat-2.png"]
    assert "not numbers" in err


def test_a_model_that_draws_nothing_is_given_up(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Engine.sample

    def broken(self: Engine, *args: Any, **kw: Any) -> Any:
        samples = real(self, *args, **kw)
        samples.images[:] = float("inf")
        return samples

    monkeypatch.setattr(Engine, "sample", broken)
    _, err = sample(capsys, "a cat", "-n", "40", code=3)
    assert "the first 10 pictures all failed" in err
    assert len(Engine.calls) == 2
    assert not list((place / "out").iterdir())


def test_a_full_disk_leaves_what_was_there(
    place: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = sample(capsys, "a cat", "--seed", "1")
    before = (place / first[0]).read_bytes()

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    _, err = sample(capsys, "a cat", "--seed", "1", "--steps", "9", "--overwrite", code=3)
    assert "No space left on device" in err
    assert [p.name for p in (place / "out").glob("*.png")] == ["a-cat-1.png"]
    assert (place / first[0]).read_bytes() == before


@pytest.mark.parametrize(
    ("fault", "code", "word"),
    [
        (KeyboardInterrupt(), 130, "interrupted"),
        (ZeroDivisionError("[/x]"), 70, "a fault of ours: ZeroDivisionError: [/x]"),
    ],
)
def test_stopped_in_the_middle(
    place: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    fault: BaseException,
    code: int,
    word: str,
) -> None:
    def stop(seeds: list[int]) -> None:
        if len(Engine.calls) == 2:
            raise fault

    monkeypatch.setattr(Engine, "before", stop)
    out, err = sample(capsys, "a cat", "-n", "3", "--seed", "0", "--batch", "1", "--json", code=code)
    assert json.loads(out[0])["seed"] == 0
    assert json.loads(out[-1])["ok"] is False
    assert word in err
    assert [p.name for p in (place / "out").glob("*.png")] == ["a-cat-0.png"]


def test_a_cut_prompt_is_told(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, err = sample(capsys, "a cat in the snow at night with a hat")
    assert "did not see “ night with a hat”" in err


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A cat, in the snow!", "a-cat-in-the-snow"),
        ("一只猫在雪地里玩耍。", "一只猫在雪地里玩耍"),
        ("../../etc/passwd\x1b\u202e", "etc-passwd"),
        ("🐈", "picture"),
    ],
)
def test_slugs(prompt: str, name: str) -> None:
    assert slug(prompt) == name
    assert len(slug(prompt * 50).encode()) <= MAX_SLUG


def test_the_same_from_python(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import t2i

    monkeypatch.setattr(Engine, "sample", lambda self, p, s, request, on_step=None: _plain(s, request))
    pictures = t2i.load("toy").sample(["a cat", "a dog"], n=2, seed=5, size=16)
    assert [p.getpixel((0, 0))[0] for p in pictures] == [6, 8, 6, 8]
    assert pictures[0].size == (16, 16)
    with pytest.raises(t2i.UsageError):
        t2i.load("toy").sample(" ")
    with pytest.raises(t2i.UnavailableError):
        t2i.load("smoll")


def _plain(seeds: list[int], request: SampleRequest) -> Any:
    size = request.size or 32
    return types.SimpleNamespace(images=torch.stack([torch.full((3, size, size), s / 100 - 1) for s in seeds]))
