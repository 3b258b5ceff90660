"""A preference model from a local folder: the numbers of transformers itself, gated, and checked before it runs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file

from t2i.cli.app import run
from t2i.errors import InputError
from t2i.score.preference import PreferenceModel

transformers = pytest.importorskip("transformers", reason="the library transformers is not installed")
SIDE = 32


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny CLIPModel with random weights, its tokenizer and its image processor, as transformers writes them."""
    folder = tmp_path_factory.mktemp("preference")
    letters = [chr(code) for code in range(33, 127)]
    names = [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    tokenizer = transformers.CLIPTokenizer(vocab={name: i for i, name in enumerate(names)}, merges=[])
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    ends = {"bos_token_id": len(names) - 2, "eos_token_id": len(names) - 1, "pad_token_id": len(names) - 1}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": len(names), "max_position_embeddings": 24, **ends},
        vision_config={**tower, "image_size": SIDE, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(7)
    net = transformers.CLIPModel(config)
    for name, weight in net.named_parameters():  # as they are drawn, all pictures would be nearly alike
        if name != "logit_scale":
            torch.nn.init.normal_(weight, std=0.3)
    net.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    transformers.CLIPImageProcessor(size={"shortest_edge": SIDE}, crop_size=SIDE).save_pretrained(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "model"))


def picture(i: int, size: tuple[int, int] = (60, 44)) -> Image.Image:
    """A soft picture that i decides."""
    noise = Image.effect_noise((6, 5), 90 + 10 * i).resize(size, Image.Resampling.BICUBIC)
    return Image.merge("RGB", (noise, noise.rotate(40 * i), noise.rotate(90 + 20 * i)))


PROMPTS = ["a cat in the snow", "two dogs", "a red apple", "a zebra", "a house at night", "a fish under water, " * 9]


def test_scores_are_those_of_transformers(folder: Path) -> None:
    """`logits_per_image` of CLIPModel's own forward pass, on what the folder's processor makes of pictures and text."""
    pictures = [picture(i, (60, 44) if i % 2 else (37, 90)) for i in range(6)]
    net = transformers.CLIPModel.from_pretrained(folder).eval()
    processor = transformers.CLIPProcessor.from_pretrained(folder)
    inputs = processor(text=PROMPTS, images=pictures, padding=True, truncation=True, max_length=24, return_tensors="pt")
    with torch.inference_mode():
        theirs = net(**inputs).logits_per_image
    model = PreferenceModel(folder)
    seen = model.features(torch.stack([model.prepare(image) for image in pictures]))
    ours = model.scale() * seen @ model.texts(PROMPTS).T
    assert theirs.std() > 0.5
    torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_a_long_thin_picture_is_cut_first(folder: Path) -> None:
    """A resize of its short side to 32 would make it 32 × 320,000 pixels."""
    model = PreferenceModel(folder)
    assert tuple(model.prepare(Image.new("RGB", (2, 20_000))).shape) == (3, SIDE, SIDE)


@pytest.fixture
def place(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve pictures with their prompts and seeds, the same blurred, and the model `tiny`."""
    shutil.copytree(tiny, tmp_path / "home" / "models" / "tiny")
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    for name in ("good", "blurred"):
        Path(name).mkdir()
        for i in range(12):
            image = picture(i % 7, (64, 64))
            image = image.filter(ImageFilter.GaussianBlur(9)) if name == "blurred" else image
            image.save(f"{name}/{i}.png")
            Path(f"{name}/{i}.txt").write_text(PROMPTS[i % 6])
    return tmp_path


def score(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> tuple[list[str], str]:
    got = run(["score", *args, "--device", "cpu", "--extractor", "clip:tiny"])
    out, err = capsys.readouterr()
    assert got == code, err
    return out.splitlines(), err


def test_it_is_reported_kept_and_gated(folder: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = PreferenceModel(folder)
    out, _ = score(capsys, "good", "--preference", "model", "--json", "--save-baseline", "b.json")
    row = json.loads(out[3])
    with Image.open(row["path"]) as image:
        seen = model.features(model.prepare(image.convert("RGB"))[None])
    expected = model.scale() * float(seen[0] @ model.texts([row["prompt"]])[0])
    assert row["metrics"]["preference"] == pytest.approx(expected, abs=1e-3)
    kept = json.loads(Path("b.json").read_text())
    assert len(kept["recipe"]["preference"]["weights"]) == 64 and "preference" in kept["means"]
    # every way of asking gates it: it is less preferred by more than its margin, or not
    only = ("--metrics", "preference", "--preference", "model")
    out, err = score(capsys, "good", *only, "--baseline", "b.json")
    assert any(line.startswith("gate: preference *\t") for line in out) and "verdict\tpass" in out[-1]
    lower = {**kept, "rows": [{**r, "metrics": {"preference": 90.0}} for r in kept["rows"]]}
    Path("high.json").write_text(json.dumps(lower))
    _, err = score(capsys, "good", *only, "--baseline", "high.json", code=1)
    assert "Pictures would be preferred less: preference 90.00 to " in err
    out, err = score(capsys, "good", "--baseline", "b.json")
    assert "only the baseline has preference: not compared" in err
    assert not any(line.startswith("gate: preference") for line in out)


def test_scores_by_other_weights_are_refused(folder: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score(capsys, "good", "--preference", "model", "--save-baseline", "b.json")
    weights = load_file(folder / "model.safetensors")
    weights["logit_scale"] += 0.1
    save_file(weights, folder / "model.safetensors")
    _, err = score(capsys, "good", "--preference", "model", "--baseline", "b.json", code=3)
    assert "the preference model's weights is" in err


def test_what_it_needs_is_said(folder: Path, place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in Path("good").glob("*.txt"):
        path.unlink()
    _, err = score(capsys, "good", "--preference", "model", code=4)
    assert "none of these has one" in err and "--prompts FILE.jsonl" in err
    assert "--preference FOLDER" in score(capsys, "blurred", "--metrics", "preference", code=4)[1]


def edit(name: str, **change: Any) -> Callable[[Path], object]:
    """Keys of a JSON file of the folder, "a.b" for b in the table a."""

    def apply(folder: Path) -> None:
        table = json.loads((folder / name).read_text())
        for key, value in change.items():
            *outer, last = key.split("__")
            inner = table
            for part in outer:
                inner = inner[part]
            inner[last] = value
        (folder / name).write_text(json.dumps(table))

    return apply


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def apply(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors")

    return apply


def pickled(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")


def cut(folder: Path) -> None:
    data = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(data[: len(data) // 2])


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "config.json"),
    "another model": (edit("config.json", model_type="bert"), "not that of a CLIP"),
    "a config that is no table": (lambda f: (f / "config.json").write_text("[]"), "not a table"),
    "a billion layers": (edit("config.json", vision_config__num_hidden_layers=10**9), "impossible num_hidden_layers"),
    "a number as text": (edit("config.json", text_config__vocab_size="many"), "impossible vocab_size"),
    "a tower that is no table": (edit("config.json", text_config=3), "damaged"),
    "more layers than weights": (edit("config.json", text_config__num_hidden_layers=3), "is missing"),
    "a wider network": (edit("config.json", projection_dim=17), "do not fit"),
    "heads that do not divide": (edit("config.json", text_config__num_attention_heads=5), "cannot be used"),
    "only a pickle": (pickled, "pickle"),
    "half of the weights": (cut, "not a usable safetensors file"),
    "a tensor that is not there": (weights(lambda w: w.pop("logit_scale")), "logit_scale is missing"),
    "weights that are no numbers": (weights(lambda w: w["visual_projection.weight"].fill_(float("nan"))), "not finite"),
    "an infinite scale": (weights(lambda w: w["logit_scale"].fill_(float("inf"))), "logit_scale"),
    "no tokenizer": (lambda f: [p.unlink() for p in f.glob("*token*")], "tokenizer.json"),
    "a damaged tokenizer": (lambda f: (f / "tokenizer.json").write_text("{"), "cannot be used"),
    "no processor": (lambda f: (f / "preprocessor_config.json").unlink(), "preprocessor_config.json"),
    "a processor for larger pictures": (edit("preprocessor_config.json", crop_size={"height": 40, "width": 40}), "40"),
    "a processor for huge pictures": (
        edit("preprocessor_config.json", size={"shortest_edge": 10**8}),
        "impossible size",
    ),
    "a processor with code": (edit("preprocessor_config.json", image_mean="os.system('true')"), "cannot be used"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_folder_that_is_no_such_model_is_refused(folder: Path, name: str) -> None:
    change, said = HOSTILE[name]
    change(folder)
    with pytest.raises(InputError, match=said) as caught:
        PreferenceModel(folder)
    assert caught.value.exit_code == 3 and str(folder) in str(caught.value)


def test_a_wrong_folder_is_told_before_anything_is_scored(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder, said in (("nowhere", "it is not a folder"), ("good", "config.json")):
        assert said in score(capsys, "good", "--preference", folder, code=3)[1]
