"""LoRAs: the picture that diffusers draws with them, in key and record, replayed; refused where they do not fit."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from checkpoints import build
from hub_server import Hub, Repo
from safetensors import safe_open
from safetensors.torch import load_file, save_file

pytest.importorskip("peft", reason="the library peft is not installed")

from peft import LoraConfig
from peft.utils import get_peft_model_state_dict

from t2i.cli.app import run
from t2i.engine import PromptBatch
from t2i.media.images import load_image, read_metadata
from t2i.open.engine import DiffusersEngine
from t2i.rng import generator
from t2i.sampling import SampleRequest, by_stage
from t2i.store.load_options import LoadOptions
from t2i.store.lora import SETTINGS, read_lora
from t2i.store.open_model import read_open_model
from t2i.store.pulled import hub_home

CAT = "a cat in the snow"
Checkpoint = Callable[[str], Path]
Command = Callable[..., tuple[list[str], str]]


def write_lora(family: str, folder: Path, seed: int) -> Path:
    """A LoRA with an alpha of its own for the family's U-Net or transformer, by diffusers."""
    pipeline = build(family)
    part = "unet" if hasattr(pipeline, "unet") else "transformer"
    net = getattr(pipeline, part)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net.add_adapter(LoraConfig(r=2, lora_alpha=6, target_modules=["to_q", "to_v"]), adapter_name="default")
        for key, parameter in net.named_parameters():
            if "lora_B" in key:
                torch.nn.init.normal_(parameter, std=0.3)
    settings = net.peft_config["default"].to_dict()
    settings["target_modules"] = sorted(settings["target_modules"])
    name = f"style{seed}.safetensors"
    layers = {f"{part}_lora_layers": get_peft_model_state_dict(net), f"{part}_lora_adapter_metadata": settings}
    type(pipeline).save_lora_weights(folder, **layers, weight_name=name)
    return folder / name


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Path]:
    """A LoRA for a family, written once."""
    root, known = tmp_path_factory.mktemp("loras"), dict[tuple[str, int], Path]()

    def lora(family: str, seed: int = 1) -> Path:
        if (family, seed) not in known:
            known[family, seed] = write_lora(family, root / family, seed)
        return known[family, seed]

    return lora


@pytest.mark.parametrize("family", ["sd", "sdxl", "flux"])
def test_the_same_picture_as_by_diffusers_itself(
    family: str, checkpoint: Checkpoint, lora: Callable[..., Path]
) -> None:
    files = [lora(family), lora(family, 2)]
    loras = (read_lora(f"{files[0]}:0.5"), read_lora(f"{files[1]}:-1.5"))
    engine = DiffusersEngine.load(read_open_model([checkpoint(family)]), options=LoadOptions(loras=loras))
    request = SampleRequest(size=64, stages=by_stage(steps={"base": 2}))
    ours = (engine.sample(PromptBatch([CAT], [7], request)).images[0].permute(1, 2, 0).numpy() + 1) * 127.5
    pipeline = diffusers.DiffusionPipeline.from_pretrained(checkpoint(family), use_safetensors=True)
    pipeline.set_progress_bar_config(disable=True)

    def draw() -> Any:
        noise = [generator("noise", 7, "base", 0)]
        arguments = {"generator": noise, "output_type": "np", "width": 64, "height": 64, "num_inference_steps": 2}
        return 255 * pipeline(CAT, **arguments).images[0]

    plain = draw()
    for name, file in zip("ab", files, strict=True):
        pipeline.load_lora_weights(file.parent, weight_name=file.name, adapter_name=name)
    pipeline.set_adapters(["a", "b"], [0.5, -1.5])
    assert np.abs(ours - draw()).max() <= 0.5
    assert np.abs(ours - plain).max() > 1


def test_key_record_and_replay(checkpoint: Checkpoint, lora: Callable[..., Path], command: Command) -> None:
    model = ("--model", checkpoint("sd"))
    args = ("sample", CAT, *model, "--steps", "2", "--seed", "1")
    (plain,), _ = command(*args)
    (half,), _ = command(*args, "--lora", f"{lora('sd')}:0.5", "-o", "half")
    (whole,), _ = command(*args, "--lora", lora("sd"), "-o", "whole")
    assert len({load_image(path).tobytes() for path in (plain, half, whole)}) == 3
    records = [read_metadata(path)["t2i"] for path in (plain, half, whole)]
    assert len({record["key"] for record in records}) == 3
    assert "lora" not in records[0]["settings"]
    assert records[1]["settings"]["lora"] == [
        {"name": "style1", "sha256": read_lora(str(lora("sd"))).sha256, "scale": 0.5}
    ]
    before = Path(half).stat().st_mtime_ns
    assert command(*args, "--lora", f"{lora('sd')}:0.5", "-o", "half")[0] == [half]
    assert Path(half).stat().st_mtime_ns == before
    replay = ("sample", "--replay", half, *model)
    assert "made with the LoRA 'style1'" in command(*replay, code=3)[1]
    assert "was not made with" in command(*replay, "--lora", lora("sd"), "--lora", lora("sd", 2), code=3)[1]
    assert command(*replay, "--lora", lora("sd"))[0] == [f"{half}: identical"]


def test_what_is_started_repainted_and_scored(
    checkpoint: Checkpoint, lora: Callable[..., Path], command: Command
) -> None:
    load_image(Path(__file__).parents[1] / "by_eye" / "old.png").resize((64, 64)).save("photo.png")
    model = ("--model", checkpoint("sd"), "--steps", "4", "--seed", "7")
    for words in (("sample", CAT, "--init", "photo.png"), ("inpaint", "photo.png", CAT, "--box", "9,9,40,40")):
        (plain,), _ = command(*words, *model, "-o", "plain")
        (styled,), _ = command(*words, *model, "-o", "styled", "--lora", lora("sd"))
        assert load_image(plain).tobytes() != load_image(styled).tobytes()
    Path("suite.jsonl").write_text(json.dumps({"prompt": CAT}))
    args = ("score", "--suite", "suite.jsonl", "--model", checkpoint("sd"), "--steps", "2", "-n", "1")
    for more in ((), ("--lora", lora("sd"))):
        command(*args, *more)
    drawn = [read_metadata(path)["t2i"]["settings"] for path in Path("scores/suite-sd").glob("*.png")]
    assert sorted("lora" in settings for settings in drawn) == [False, True]


@pytest.mark.parametrize("family", ["pixart", "unclip", "kandinsky-prior+kandinsky", "small"])
def test_models_that_take_none(
    family: str, checkpoint: Checkpoint, lora: Callable[..., Path], command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2i.jobs.runner.Runner.run", lambda self: pytest.fail("it went on"))
    model = family if family == "small" else "+".join(str(checkpoint(part)) for part in family.split("+"))
    _, err = command("sample", CAT, "--model", model, "--lora", lora("sd"), code=2)
    assert "--lora: " in err and "takes none" in err and "hint: " in err


def test_a_lora_of_the_text_encoder(checkpoint: Checkpoint, command: Command) -> None:
    layer = "text_encoder.text_model.encoder.layers.0.self_attn.q_proj"
    noise = torch.Generator().manual_seed(0)
    down, up = torch.randn(2, 16, generator=noise), torch.randn(16, 2, generator=noise)
    save_file({f"{layer}.lora_A.weight": down, f"{layer}.lora_B.weight": up}, "text.safetensors")
    args = ("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--seed", "1")
    (plain,), _ = command(*args)
    (styled,), _ = command(*args, "--lora", "text.safetensors", "-o", "styled")
    assert load_image(plain).tobytes() != load_image(styled).tobytes()


def test_a_lora_of_the_hub(hub: Hub, checkpoint: Checkpoint, lora: Callable[..., Path], command: Command) -> None:
    repo = hub.add("acme/style", Repo({"style.safetensors": lora("sd").read_bytes(), "README.md": b"# A style"}))
    args = ("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--seed", "1")
    assert "models pull acme/style" in command(*args, "--lora", "acme/style:0.5", code=4)[1]
    assert run(["models", "pull", "acme/style"]) == 0
    (_, out), err = command(*args, "--lora", "acme/style:0.5")  # after the line of the pull
    assert "acme/style is pulled: --lora acme/style" in err
    assert run(["models", "show", "acme/style"]) == 0
    (used,) = read_metadata(out)["t2i"]["settings"]["lora"]
    assert used["name"] == f"acme/style@{repo.commit[:12]}"
    shown = command("sample", "--replay", out, "--model", checkpoint("sd"))[0]
    assert shown[-1] == f"{out}: identical"
    assert "  can be used with: --lora" in shown
    (hub_home() / used["name"] / "style.safetensors").write_bytes(lora("sd", 2).read_bytes())
    assert "is not the file that was pulled" in command(*args, "--lora", "acme/style:0.5", code=3)[1]


def rewrite(file: Path, out: str, change: Callable[[dict[str, Any]], dict[str, Any]], **settings: Any) -> None:
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    told = json.loads(metadata[SETTINGS]) | {f"unet.{key}": value for key, value in settings.items()}
    save_file(change(load_file(file)), out, metadata={**metadata, SETTINGS: json.dumps(told)})


def same(state: dict[str, Any]) -> dict[str, Any]:
    return state


def longer(state: dict[str, Any]) -> dict[str, Any]:
    return {key: torch.cat([tensor, tensor], dim=-1) if "lora_A" in key else tensor for key, tensor in state.items()}


def elsewhere(state: dict[str, Any]) -> dict[str, Any]:
    last = sorted(state)[-1].partition(".lora")[0]
    return {key.replace(last, f"{last}_away"): tensor for key, tensor in state.items()}


BAD: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a pickle": (lambda f: Path("x.safetensors").write_bytes(pickle.dumps([1])), "is a pickle"),
    "cut short": (lambda f: Path("x.safetensors").write_bytes(f.read_bytes()[:-9]), "cut short"),
    "no LoRA": (lambda f: save_file({"conv.weight": torch.ones(2, 2)}, "x.safetensors"), "it holds no LoRA"),
    "another ending": (lambda f: Path("x.bin").write_bytes(f.read_bytes()), "does not end in .safetensors"),
    "whole numbers": (
        lambda f: rewrite(f, "x.safetensors", lambda state: {key: t.int() for key, t in state.items()}),
        "which weights do not have",
    ),
    "another shape": (lambda f: rewrite(f, "x.safetensors", longer), "cannot be used"),
    "a layer that is not there": (lambda f: rewrite(f, "x.safetensors", elsewhere), "layers fit this model"),
    "a method of its own": (
        lambda f: rewrite(f, "x.safetensors", same, init_lora_weights="pissa"), "ask for 'unet.init_lora_weights'",
    ),
    "data of its own": (
        lambda f: rewrite(f, "x.safetensors", same, eva_config={"rho": 2}), "ask for 'unet.eva_config'",
    ),
    "a slow pattern": (
        lambda f: rewrite(f, "x.safetensors", same, target_modules="(a+)+$"), "ask for 'unet.target_modules'",
    ),
    "settings that are none": (
        lambda f: save_file(load_file(f), "x.safetensors", metadata={SETTINGS: "["}), "settings cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused(case: str, checkpoint: Checkpoint, lora: Callable[..., Path], command: Command) -> None:
    damage, sentence = BAD[case]
    damage(lora("sd"))
    file = next(Path().glob("x.*"))
    _, err = command("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--lora", file, code=3)
    assert sentence in err
    assert not list(Path("out").glob("*.png"))


def test_a_lora_of_another_family(checkpoint: Checkpoint, lora: Callable[..., Path], command: Command) -> None:
    args = ("sample", CAT, "--model", checkpoint("sd"), "--steps", "2", "--lora", lora("flux"))
    assert "it was made for another model" in command(*args, code=3)[1]


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        ("nowhere.safetensors", 4, "there is no LoRA"),
        ("acme/style", 4, "fetch it once with `t2i models pull acme/style`"),
        ("{lora}:0", 2, "a scale of 0 makes no sense"),
        ("{lora}:nan", 2, "makes no sense"),
        ("{lora}:1e9", 2, "makes no sense"),
        (":0.5", 2, "names no file"),
        ("m.safetensors:abc", 2, "the scale 'abc' is no number"),
        (".", 3, "holds no safetensors file"),
    ],
)
def test_what_cannot_be_meant(
    text: str, code: int, sentence: str, checkpoint: Checkpoint, lora: Callable[..., Path], command: Command
) -> None:
    named = text.replace("{lora}", str(lora("sd")))
    assert sentence in command("sample", CAT, "--model", checkpoint("sd"), "--lora", named, code=code)[1]
    twice = ("--lora", lora("sd"), "--lora", f"{lora('sd')}:0.5")
    assert "names one LoRA twice" in command("sample", CAT, "--model", checkpoint("sd"), *twice, code=2)[1]


def test_a_lora_of_a_quantised_model(checkpoint: Checkpoint, lora: Callable[..., Path]) -> None:
    pytest.importorskip("torchao", reason="the library torchao is not installed")
    loras = (read_lora(str(lora("sd"))),)
    request = SampleRequest(size=64, stages=by_stage(steps={"base": 2}))

    def draw(**options: Any) -> torch.Tensor:
        engine = DiffusersEngine.load(read_open_model([checkpoint("sd")]), options=LoadOptions(**options))
        return engine.sample(PromptBatch([CAT], [7], request)).images

    exact, small, without = draw(loras=loras), draw(loras=loras, quantize="int8"), draw(quantize="int8")
    assert 0 < (small - exact).abs().mean() < (without - small).abs().mean() / 2
