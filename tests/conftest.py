"""What several rooms need: a whole bundle with real networks and random weights, small enough to draw in
milliseconds."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i.nets.clip import Clip, ClipConfig
from t2i.nets.dalle import DalleConfig, DalleTransformer
from t2i.nets.gan import Generator, GeneratorConfig
from t2i.nets.language import LanguageConfig, LanguageModel
from t2i.nets.prior import PriorConfig, build_prior
from t2i.nets.unet import UNet
from t2i.nets.unet_config import UNetConfig
from t2i.nets.upsampler import Upsampler, UpsamplerConfig
from t2i.nets.vae import VAE
from t2i.sampling import SamplingConfig
from t2i.store.bundle_writing import write_bundle
from t2i.store.manifest import Manifest, StageEntry
from t2i.text.tokenizer import train_tokenizer
from t2i.text.words import KnownWords

sys.path.insert(0, str(Path(__file__).parent))  # for hub_server.py and others, which are no tests

from filling import VAE_CONFIG, fill
from hub_server import Hub

CAPTIONS = [
    "a cat in the snow",
    "a red apple on a blue background",
    "a zebra next to a house at night",
    "two penguins in the snow",
    "一只猫在雪地里玩耍",
]
E, D, CONTEXT, VOCAB = 32, 32, 16, 300
CLIP = ClipConfig(
    embed_dim=E, image_size=16, patch=8, vision_width=32, vision_layers=1, vision_head_width=16,
    text_width=D, text_layers=1, text_heads=2, context=CONTEXT, vocab=VOCAB,
)  # fmt: skip
PRIOR = PriorConfig(
    embed_dim=E, token_dim=D, context=CONTEXT, width=32, depth=1, heads=2,
    pool_width=32, pool_heads=2, time_features=16,
)  # fmt: skip
BASE = UNetConfig(
    channels=(16, 32), blocks=(1, 1), attention=(1,), mid_blocks=1, head_dim=16, emb_dim=32, context_dim=32,
    cond_dim=E, z_tokens=2, text_dim=D, time_features=16,
)  # fmt: skip
UP = UpsamplerConfig(scale=4, unshuffle=4, width=16, depth=1, emb_dim=16, time_features=16)
ENTRIES = (
    StageEntry("clip", "clip", "clip"),
    StageEntry("prior", "prior", "prior", SamplingConfig(steps=3, guidance=1.5, sampler="euler", best_of=2)),
    StageEntry("base", "base", "base", SamplingConfig(steps=4, guidance=2.0, sampler="dpmpp_2m", t_end=0.3)),
    StageEntry("upsampler64", "upsampler", "upsampler64", SamplingConfig(steps=1, noise=0.1)),
)
WIDTHS: dict[str, dict[str, int]] = {
    "clip": {"embed_dim": E, "text_dim": D, "context": CONTEXT, "vocab": VOCAB},
    "prior": {"embed_dim": E, "text_dim": D},
    "base": {"cond_dim": E, "text_dim": D, "size": 16},
    "upsampler64": {"low": 16, "size": 64},
}

# the same for Imagen: a text encoder that has seen no picture, a base and an upsampler that read it
LANGUAGE = LanguageConfig(width=24, layers=2, heads=2, context=CONTEXT, vocab=VOCAB)
BLIND = replace(BASE, cond_dim=0, z_tokens=0, text_dim=24, text_pool=True, skip_scale=0.5**0.5)
BLIND_ENTRIES = (
    StageEntry("text", "text", "text"),
    StageEntry("base", "base", "base", SamplingConfig(steps=4, guidance=2.0, threshold=(0.995, 10.0))),
    StageEntry("upsampler64", "upsampler", "upsampler64", SamplingConfig(steps=1, guidance=1.5, noise=0.1)),
)

# the same for DALL·E: a transformer draws the 4 x 4 tokens of a VAE
DALLE = DalleConfig(
    vocab=VOCAB, context=CONTEXT, codes=20, grid=4, width=32, layers=3, heads=2, attention="sparse", kernel=3
)
DALLE_ENTRIES = (
    StageEntry("clip", "clip", "clip"),
    StageEntry("dalle", "dalle", "dalle", SamplingConfig(temperature=1.0)),
    StageEntry("vae", "vae", "vae"),
    StageEntry("upsampler64", "upsampler", "upsampler64", SamplingConfig(steps=1, noise=0.1)),
)

# the same for a GAN
GENERATOR = GeneratorConfig(noise=8, embed_dim=E, token_dim=D, channels=(16, 12), patch=2, emb=16)
GAN_ENTRIES = (
    StageEntry("clip", "clip", "clip"),
    StageEntry("gan", "gan", "gan", SamplingConfig(temperature=1.0)),
    StageEntry("upsampler64", "upsampler", "upsampler64", SamplingConfig(steps=1, noise=0.1)),
)


def write_tiny(folder: Path) -> Path:
    """A bundle of 16 then 64 pixels in `folder`: clip, prior, base, upsampler64."""
    configs = {"clip": CLIP, "prior": PRIOR, "base": BASE, "upsampler64": UP}
    nets = {"clip": Clip(CLIP), "prior": build_prior(PRIOR), "base": UNet(BASE), "upsampler64": Upsampler(UP)}
    stages: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]] = {}
    for seed, (name, net) in enumerate(nets.items()):
        config: dict[str, Any] = {"net": configs[name].to_dict(), "widths": WIDTHS[name]}
        if name != "clip":
            config |= {"process": {"kind": "flow"}, "prediction": "x0"}
        stages[name] = (config, fill(net, seed).state_dict())
    notes = {"words": KnownWords.collect(CAPTIONS)}
    manifest = Manifest("unclip", "tiny", ENTRIES, (16, 64), notes=notes)
    write_bundle(folder, manifest, stages, train_tokenizer(CAPTIONS, VOCAB).backend.to_str(), "# tiny\n")
    return folder


def write_blind(folder: Path) -> Path:
    """A bundle of 16 then 64 pixels in `folder`: text, base, upsampler64; nothing in it sees pictures."""
    up = replace(UP, pooled_dim=24)
    widths = {"text_dim": 24, "context": CONTEXT}
    diffuses: dict[str, Any] = {"process": {"kind": "flow"}, "prediction": "x0"}
    language: dict[str, Any] = {"encoder": "language", "net": LANGUAGE.to_dict(), "widths": {**widths, "vocab": VOCAB}}
    base = {"net": BLIND.to_dict(), "widths": {**widths, "cond_dim": 0, "size": 16}, **diffuses}
    larger = {"net": up.to_dict(), "widths": {"low": 16, "size": 64, "text_dim": 24}, **diffuses}
    stages = {
        "text": (language, fill(LanguageModel(LANGUAGE), 0).state_dict()),
        "base": (base, fill(UNet(BLIND), 1).state_dict()),
        "upsampler64": (larger, fill(Upsampler(up), 2).state_dict()),
    }
    manifest = Manifest("imagen", "blind", BLIND_ENTRIES, (16, 64), notes={"words": KnownWords.collect(CAPTIONS)})
    write_bundle(folder, manifest, stages, train_tokenizer(CAPTIONS, VOCAB).backend.to_str(), "# blind\n")
    return folder


def write_direct(folder: Path, family: str, name: str, entries: tuple[StageEntry, ...], stages: dict[str, Any]) -> Path:
    """A bundle of 16 then 64 pixels in `folder` that draws without diffusion: clip, `stages`, upsampler64."""
    stages = {
        "clip": ({"net": CLIP.to_dict(), "widths": WIDTHS["clip"]}, fill(Clip(CLIP), 0).state_dict()),
        **stages,
        "upsampler64": (
            {"net": UP.to_dict(), "widths": WIDTHS["upsampler64"], "process": {"kind": "flow"}, "prediction": "x0"},
            fill(Upsampler(UP), 3).state_dict(),
        ),
    }
    manifest = Manifest(family, name, entries, (16, 64), notes={"words": KnownWords.collect(CAPTIONS)})
    write_bundle(folder, manifest, stages, train_tokenizer(CAPTIONS, VOCAB).backend.to_str(), f"# {name}\n")
    return folder


def write_gan(folder: Path) -> Path:
    """A bundle of 16 then 64 pixels in `folder`: clip, gan, upsampler64."""
    widths = {"embed_dim": E, "text_dim": D, "size": 16}
    stages: dict[str, Any] = {
        "gan": ({"net": GENERATOR.to_dict(), "widths": widths}, fill(Generator(GENERATOR), 1).state_dict()),
    }  # fmt: skip
    return write_direct(folder, "gan", "forger", GAN_ENTRIES, stages)


@pytest.fixture(scope="session")
def gan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle `forger`, a GAN. Read it; copy it before you damage it."""
    return write_gan(tmp_path_factory.mktemp("models") / "forger")


def write_dalle(folder: Path) -> Path:
    """A bundle of 16 then 64 pixels in `folder`: clip, dalle, vae, upsampler64."""
    tokens = {"codes": 20, "grid": 4}
    stages: dict[str, Any] = {
        "dalle": (
            {"net": DALLE.to_dict(), "widths": {**tokens, "context": CONTEXT, "vocab": VOCAB}},
            fill(DalleTransformer(DALLE), 1).state_dict(),
        ),
        "vae": (
            {"net": VAE_CONFIG.to_dict(), "widths": {**tokens, "size": 16}}, fill(VAE(VAE_CONFIG), 2).state_dict()
        ),
    }  # fmt: skip
    return write_direct(folder, "dalle", "tokens", DALLE_ENTRIES, stages)


@pytest.fixture(scope="session")
def dalle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle `tokens`, a DALL·E. Read it; copy it before you damage it."""
    return write_dalle(tmp_path_factory.mktemp("models") / "tokens")


@pytest.fixture(scope="session")
def blind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle `blind`. Read it; copy it before you damage it."""
    return write_blind(tmp_path_factory.mktemp("models") / "blind")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle `tiny`. Read it; copy it before you damage it."""
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


MICRO = """
seed = 3
[world]
vocabulary = "shapes"
things = ["shape_circle", "shape_square", "shape_star"]
places = ["plain", "snow"]
[tokenizer]
vocabulary = "shapes"
captions = 300
[clip.net]
embed_dim = 32
image_size = 16
patch = 8
vision_width = 32
vision_layers = 1
vision_head_width = 32
text_width = 32
text_layers = 1
text_heads = 2
context = 24
vocab = 512
[clip.schedule]
steps = 12
batch = 4
precision = "fp32"
log_every = 1
save_every = 5
sample_every = 100
[base]
size = 16
[base.net]
channels = [16, 24]
blocks = [1, 1]
attention = [1]
mid_blocks = 1
head_dim = 8
emb_dim = 32
context_dim = 32
cond_dim = 32
text_dim = 32
z_tokens = 2
time_features = 16
[base.schedule]
steps = 3
batch = 4
precision = "fp32"
log_every = 1
[prior]
pool = 16
[prior.net]
embed_dim = 32
token_dim = 32
context = 24
width = 32
depth = 1
heads = 2
pool_width = 32
pool_heads = 2
time_features = 16
[prior.schedule]
steps = 3
batch = 4
precision = "fp32"
log_every = 1
[upsampler256]
size = 64
crop = 32
crops = 2
[upsampler256.net]
width = 16
depth = 1
emb_dim = 16
time_features = 16
[upsampler256.schedule]
steps = 3
batch = 4
precision = "fp32"
log_every = 1
[sample]
prior.steps = 2
base.steps = 2
upsampler.steps = 1
"""


TEXT = """
[clip.schedule]
steps = 0
[prior.schedule]
steps = 0
[text.net]
width = 24
layers = 1
heads = 2
context = 24
vocab = 512
[text.schedule]
steps = 4
batch = 8
precision = "fp32"
log_every = 1
"""


@pytest.fixture(scope="session")
def micro(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The path of the recipe: clip and base at 16 pixels, the upsampler to 64."""
    path = tmp_path_factory.mktemp("recipe") / "micro.toml"
    path.write_text(MICRO)
    return str(path)


@pytest.fixture(scope="session")
def blind_micro(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same for Imagen: a language model, a base that reads it, an upsampler that reads it."""
    head, tail = MICRO.split("[clip.net]")
    base = tail[tail.index("[base]") : tail.index("[prior]")]
    base = base.replace("cond_dim = 32", "cond_dim = 0").replace("\ntext_dim = 32", "\ntext_dim = 24\ntext_pool = true")
    up = tail[tail.index("[upsampler256]") :].replace("[upsampler256.net]", "[upsampler256.net]\npooled_dim = 24")
    path = tmp_path_factory.mktemp("recipe") / "blind.toml"
    path.write_text(head + TEXT + base + up)
    return str(path)


TOKENS = """
[base.schedule]
steps = 0
[prior.schedule]
steps = 0
[vae]
size = 16
[vae.net]
codes = 16
dim = 8
patch = 2
channels = [8, 16]
blocks = 1
[vae.schedule]
steps = 4
batch = 4
precision = "fp32"
log_every = 1
sample_every = 4
[dalle.net]
vocab = 512
context = 24
codes = 16
grid = 4
width = 16
layers = 2
heads = 2
attention = "sparse"
kernel = 3
[dalle.schedule]
steps = 4
batch = 4
precision = "fp32"
log_every = 1
sample_every = 4
"""

ADVERSARIAL = """
[base.schedule]
steps = 0
[prior.schedule]
steps = 0
[gan.net]
noise = 8
embed_dim = 32
token_dim = 32
channels = [16, 12]
emb = 16
[gan.discriminator]
text_dim = 64
channels = [8, 12]
[gan.schedule]
steps = 6
batch = 4
warmup = 1
precision = "fp32"
log_every = 1
sample_every = 6
"""


@pytest.fixture(scope="session")
def gan_micro(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same for a GAN: CLIP, generator and discriminator, an upsampler."""
    head, tail = MICRO.replace("[clip.net]", "[clip]\ndenoise = 0.0\n[clip.net]").split("[base]\n")
    path = tmp_path_factory.mktemp("recipe") / "forger.toml"
    path.write_text(head + ADVERSARIAL + tail[tail.index("[upsampler256]") :])
    return str(path)


@pytest.fixture(scope="session")
def dalle_micro(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The same for DALL·E: CLIP by contrast, a VAE, a transformer, an upsampler."""
    head, tail = MICRO.split("[clip.net]")
    clip = "[clip]\ndenoise = 0.0\n[clip.net]" + tail[: tail.index("[base]")]
    path = tmp_path_factory.mktemp("recipe") / "tokens.toml"
    path.write_text(head + clip + TOKENS + tail[tail.index("[upsampler256]") :])
    return str(path)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A hub of the test's own, and an empty home for what is pulled."""
    hub = Hub()
    server = hub.serve()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", hub.url)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    yield hub
    server.shutdown()
    server.server_close()


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> Iterator[None]:
    """Small tensors: threads only wait for one another, and for what else runs on the machine. For all fixtures alike:
    a sum over two threads has other last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
