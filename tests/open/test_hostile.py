"""Folders that were damaged, or made to do harm: refused with exit 3, and nothing in them is executed."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
INDEX = "unet/diffusion_pytorch_model.safetensors.index.json"
Checkpoint = Callable[[str], Path]
Command = Callable[..., tuple[list[str], str]]


class Bomb:
    """A pickle of it writes a file when it is opened."""

    def __reduce__(self) -> Any:
        return Path.touch, (Path("executed"),)


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def index(folder: Path, **parts: Any) -> None:
    change(folder / "model_index.json", **parts)


def sharded(folder: Path, weight_map: dict[str, Any]) -> None:
    (folder / WEIGHTS).rename(folder / "unet/part-1.safetensors")
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def only_a_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))


def a_pickle_with_another_name(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(pickle.dumps(Bomb()))


def code_beside(folder: Path) -> None:
    (folder / "unet/my_net.py").write_text("open('executed', 'w')\nclass Net: pass\n")
    index(folder, unet=["my_net", "Net"])


def code_in_a_known_part(folder: Path) -> None:
    (folder / "unet/diffusers.py").write_text("open('executed', 'w')\n")


def an_auto_map(folder: Path) -> None:
    change(folder / "text_encoder/config.json", auto_map={"AutoModel": "modeling.Net"})


def a_tokenizer_with_code(folder: Path) -> None:
    change(folder / "tokenizer/tokenizer_config.json", auto_map={"AutoTokenizer": ["tok.Tok", None]})


def rewrite(folder: Path, state: dict[str, torch.Tensor]) -> None:
    save_file(state, folder / WEIGHTS, metadata={"format": "pt"})


def weights_of_another_shape(folder: Path) -> None:
    rewrite(folder, {name: tensor.flatten()[:1] for name, tensor in load_file(folder / WEIGHTS).items()})


def weights_that_lack_some(folder: Path) -> None:
    state = load_file(folder / WEIGHTS)
    state.pop("conv_in.weight")
    rewrite(folder, state)


def whole_numbers(folder: Path) -> None:
    rewrite(folder, {name: tensor.to(torch.int32) for name, tensor in load_file(folder / WEIGHTS).items()})


CASES: dict[str, tuple[Callable[[Path], None], str]] = {
    "only a pickle": (only_a_pickle, "is a pickle"),
    "a pickle called safetensors": (a_pickle_with_another_name, "is a pickle"),
    "a module of the system": (lambda f: index(f, unet=["os", "Popen"]), "no class of diffusers or transformers"),
    "a module of ours": (lambda f: index(f, unet=["t2i.files", "Path"]), "no class of diffusers or transformers"),
    "a path for a class": (lambda f: index(f, unet=["diffusers", "../../x"]), "no class of diffusers or transformers"),
    "a class that is not there": (lambda f: index(f, unet=["diffusers", "NoSuchNet"]), "no part of a pipeline"),
    "a function": (lambda f: index(f, unet=["transformers", "Trainer"]), "no part of a pipeline"),
    "a path for a part": (lambda f: index(f, **{"../unet": ["diffusers", "UNet2DModel"]}), "no name of a part"),
    "a part that is no pair": (lambda f: index(f, unet=["diffusers"]), "not a pair"),
    "a pipeline of its own": (lambda f: index(f, _class_name=["my", "Pipe"]), "t2i draws with no"),
    "a pipeline that is none": (lambda f: index(f, _class_name="OnnxPipeline"), "t2i draws with no"),
    "code beside": (code_beside, "no class of diffusers or transformers"),
    "code in a known part": (code_in_a_known_part, "code of its own"),
    "an auto_map": (an_auto_map, "code of its own"),
    "a tokenizer with code": (a_tokenizer_with_code, "code of its own"),
    "a missing part": (lambda f: shutil.rmtree(f / "vae"), "is missing"),
    "a part that it needs": (lambda f: index(f, vae=[None, None]), "needs one"),
    "missing weights": (lambda f: (f / WEIGHTS).unlink(), "holds no weights"),
    "a missing shard": (lambda f: sharded(f, {"a": "part-1.safetensors", "b": "part-2.safetensors"}), "is missing"),
    "a shard outside": (lambda f: sharded(f, {"a": "../../sd/x.safetensors"}), "no safetensors file in its folder"),
    "an absolute shard": (lambda f: sharded(f, {"a": "/etc/passwd"}), "no safetensors file in its folder"),
    "a shard that is a pickle": (lambda f: sharded(f, {"a": "part-1.bin"}), "no safetensors file in its folder"),
    "an index of nothing": (lambda f: sharded(f, {}), "has no weight_map"),
    "weights cut short": (lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-9]), "cut short"),
    "weights of another shape": (weights_of_another_shape, "cannot be used"),
    "weights that lack some": (weights_that_lack_some, "do not belong together (conv_in.weight)"),
    "whole numbers for weights": (whole_numbers, "which weights do not have"),
    "configs without a size": (lambda f: change(f / "vae/config.json", block_out_channels=7), "what size of pictures"),
    "an enormous size": (lambda f: change(f / "unet/config.json", sample_size=10**9), "what size of pictures"),
    "quantised weights": (lambda f: change(f / "unet/config.json", quantization_config={}), "quantised form"),
    "an index that is no JSON": (lambda f: (f / "model_index.json").write_text("{"), "not valid JSON"),
    "an index that is a list": (lambda f: (f / "model_index.json").write_text("[]"), "not a table"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_is_refused(case: str, checkpoint: Checkpoint, command: Command) -> None:
    shutil.copytree(checkpoint("sd"), "sd")
    damage, sentence = CASES[case]
    damage(Path("sd"))
    _, err = command("sample", "a cat", "--model", "sd", "--steps", "2", code=3)
    assert sentence in err
    assert not Path("executed").exists()
    assert not list(Path("out").glob("*.png"))


def test_pickles_beside_safetensors_are_left_alone(checkpoint: Checkpoint, command: Command) -> None:
    shutil.copytree(checkpoint("sd"), "sd")
    Path("sd/unet/diffusion_pytorch_model.bin").write_bytes(pickle.dumps(Bomb()))
    command("sample", "a cat", "--model", "sd", "--steps", "2")
    assert not Path("executed").exists()


def test_shards_and_half_precision_files_are_read(checkpoint: Checkpoint, command: Command) -> None:
    (whole,), _ = command("sample", "a cat", "--model", checkpoint("sd"), "--steps", "2", "--seed", "1", "-o", "a")
    shutil.copytree(checkpoint("sd"), "sd")
    state = load_file(Path("sd") / WEIGHTS)
    names = sorted(state)
    halves = {"part-1.safetensors": names[::2], "part-2.safetensors": names[1::2]}
    for file, some in halves.items():
        save_file({name: state[name] for name in some}, Path("sd/unet") / file, metadata={"format": "pt"})
    where = {name: file for file, some in halves.items() for name in some}
    (Path("sd") / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (Path("sd") / WEIGHTS).unlink()
    vae = Path("sd/vae/diffusion_pytorch_model.safetensors")
    vae.rename(vae.with_name("diffusion_pytorch_model.fp16.safetensors"))
    (split,), _ = command("sample", "a cat", "--model", "sd", "--steps", "2", "--seed", "1", "-o", "b")
    assert Path(split).read_bytes() != Path(whole).read_bytes()  # another model by its files, so another key
    from t2i.media.images import load_image

    assert load_image(split).tobytes() == load_image(whole).tobytes()
