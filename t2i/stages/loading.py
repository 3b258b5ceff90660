"""From a bundle's files to stages: networks built from their config, with the stored weights in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from t2i.diffusion.denoiser import PREDICTIONS
from t2i.diffusion.process import from_config
from t2i.errors import InputError, T2IError, UnavailableError
from t2i.nets.clip import Clip, ClipConfig
from t2i.nets.dalle import DalleConfig, DalleTransformer
from t2i.nets.gan import Generator, GeneratorConfig
from t2i.nets.language import LanguageConfig, LanguageModel
from t2i.nets.prior import PriorConfig, build_prior
from t2i.nets.sr_unet import SRUNet, SRUNetConfig
from t2i.nets.unet import UNet
from t2i.nets.unet_config import UNetConfig
from t2i.nets.upsampler import Upsampler, UpsamplerConfig
from t2i.nets.vae import VAE, VAEConfig
from t2i.schema import as_table, shown
from t2i.stages.dalle import TokenStage
from t2i.stages.gan import GanStage
from t2i.stages.personal import add_words
from t2i.stages.stage import Stage
from t2i.store.bundle import Bundle
from t2i.store.compatibility import DIRECT, ENCODERS
from t2i.store.lora import Lora
from t2i.store.manifest import MANIFEST, Manifest, StageEntry, broken
from t2i.store.personal import Personal
from t2i.store.tensors import FLOATING
from t2i.text.encoder import NetEncoder, TextEncoder
from t2i.text.t5 import TIED, T5Encoder, build_t5, fill_t5
from t2i.text.tokenizer import Tokenizer

NETS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "language": lambda config: LanguageModel(LanguageConfig.from_dict(config)),
    "t5": build_t5,
    "clip": lambda config: Clip(ClipConfig.from_dict(config)),
    "prior": lambda config: build_prior(PriorConfig.from_dict(config)),
    "base": lambda config: UNet(UNetConfig.from_dict(config)),
    "gan": lambda config: Generator(GeneratorConfig.from_dict(config)),
    "dalle": lambda config: DalleTransformer(DalleConfig.from_dict(config)),
    "vae": lambda config: VAE(VAEConfig.from_dict(config)),
    "upsampler": lambda config: Upsampler(UpsamplerConfig.from_dict(config)),
    "sr_unet": lambda config: SRUNet(SRUNetConfig.from_dict(config)),
}
"""How each kind of stage builds its network from its config. A stage of several designs names its own: `encoder` in the
config of a text stage, `design` in that of an upsampler."""
DIFFUSION = ("prior", "base", "upsampler")
"""The kinds of stage that draw by diffusion."""
PIXELS = ("base", "upsampler", "gan")
"""The kinds of stage that are loaded in the number format asked for; the others are small."""


class Unfilled(TorchFunctionMode):
    """Skips weight initialisation of networks built inside it: the file's weights replace it at once.

    The meta device alone does not do: a single `normal_` on it imports torch._dynamo and sympy, 1.4 s of a cold start.
    """

    FILLS = frozenset(
        ["normal_", "trunc_normal_", "uniform_", "kaiming_uniform_", "kaiming_normal_", "xavier_uniform_"]
        + ["zero_", "zeros_", "ones_", "fill_", "constant_"]
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self.FILLS:
            return args[0] if args else kwargs["tensor"]  # nn.init passes its arguments by name
        return func(*args, **kwargs)


WIDTHS: dict[str, dict[str, str]] = {
    "clip": {"embed_dim": "embed_dim", "text_dim": "text_width", "context": "context", "vocab": "vocab"},
    "language": {"text_dim": "width", "context": "context", "vocab": "vocab"},
    "t5": {"text_dim": "d_model", "vocab": "vocab_size"},
    "prior": {"embed_dim": "embed_dim", "text_dim": "token_dim"},
    "base": {"cond_dim": "cond_dim", "text_dim": "text_dim"},
    "gan": {"embed_dim": "embed_dim", "text_dim": "token_dim", "size": "size"},
    "dalle": {"codes": "codes", "grid": "grid", "context": "context", "vocab": "vocab"},
    "vae": {"codes": "tokens"},
    "upsampler": {"text_dim": "pooled_dim"},
    "sr_unet": {"cond_dim": "image_dim", "text_dim": "pooled_dim"},
}
"""Design -> key of the table ``widths`` of config.json -> the key of the network's config that it repeats."""


def load_net(bundle: Bundle, entry: StageEntry) -> nn.Module:
    """A stage's network with its weights. Raises InputError if config and weights do not match."""
    net = build_net(bundle, entry)
    _, state = bundle.load_stage(entry.name)
    try:
        if _design(bundle, entry) == "t5":
            fill_t5(net, state)
        else:
            net.load_state_dict(state, assign=True)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _strange(bundle, entry, "its weights and its config.json do not belong together", error) from error
    return net


def build_net(bundle: Bundle, entry: StageEntry) -> nn.Module:
    """A stage's network on the meta device, without weights. Raises InputError for a config.json that no network has,
    or whose ``widths`` are not those of its network."""
    config, design = bundle.configs[entry.name], _design(bundle, entry)
    try:
        with torch.device("meta"), Unfilled():
            net = NETS[design](as_table(config.get("net"), "net"))
        sizes: Any = net.config
        widths = config["widths"]
        for key, own in WIDTHS[design].items():
            said, is_ = widths.get(key, 0), getattr(sizes, own)
            if said != is_:
                raise ValueError(f"widths.{key} is {shown(said)}, and net.{own} is {is_}")
        size, low = widths.get("size", 0), widths.get("low", 0)
        if design == "base" and size % sizes.multiple:
            raise ValueError(f"widths.size is {size}, and the network draws multiples of {sizes.multiple}")
        if design == "vae" and size != widths.get("grid", 0) * sizes.factor:
            raise ValueError(f"widths.size is {size}, not {sizes.factor} times widths.grid {shown(widths.get('grid'))}")
        if low and size != low * sizes.scale:
            raise ValueError(f"widths.size is {size}, not {sizes.scale} times widths.low {low}")
    except UnavailableError:
        raise
    except (T2IError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _strange_config(bundle, entry, error) from error
    return net


def check_stage(bundle: Bundle, entry: StageEntry) -> None:
    """Raise InputError unless a stage's settings can be understood and its weights have the names, the shapes and the
    kinds of number that its network asks for. No weights are loaded."""
    net = build_net(bundle, entry)
    if entry.kind in DIFFUSION:
        build_stage(bundle, entry, net)
    wanted = {name: (tuple(t.shape), t.is_floating_point()) for name, t in net.state_dict().items()}
    if _design(bundle, entry) == "t5":
        wanted.pop(TIED, None)
    found = {name: (shape, dtype in FLOATING) for name, (dtype, shape) in bundle.layout(entry.name).items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            why = "is missing" if name not in found else "has no place" if name not in wanted else "is another tensor"
            error = ValueError(f"{name[:80]!r} {why}")
            raise _strange(bundle, entry, "its weights and its config.json do not belong together", error)


def check_loads(bundle: Bundle) -> None:
    """Load all that a bundle's stages need to draw. Raises InputError at the first fault, UnavailableError where a
    library is missing."""
    for entry in bundle.manifest.stages:
        check_stage(bundle, entry)
        net = load_net(bundle, entry)
        if entry.kind in ENCODERS:
            load_encoder(bundle, entry, net)


def _design(bundle: Bundle, entry: StageEntry) -> str:
    """The key of `NETS` for a stage. Raises InputError."""
    config = bundle.configs[entry.name]
    found = config.get("encoder") if entry.kind == "text" else config.get("design", entry.kind)
    allowed = {"text": ("language", "t5"), "upsampler": ("upsampler", "sr_unet")}.get(entry.kind, (entry.kind,))
    if found not in allowed:
        error = ValueError(f"the design of a stage of kind {entry.kind} is {shown(found)}, not {' or '.join(allowed)}")
        raise _strange_config(bundle, entry, error)
    return str(found)


def load_encoder(
    bundle: Bundle, entry: StageEntry, net: nn.Module, personal: Sequence[tuple[Lora, Personal]] = ()
) -> TextEncoder:  # fmt: skip
    """The text encoder: the network of a stage of kind `clip` or `text`, with the bundle's tokenizer, and with the new
    words of personal models.

    Raises InputError if the two do not match.
    """
    where, text = str(bundle.path / "tokenizer.json"), bundle.tokenizer_json() or ""
    if isinstance(net, (Clip, LanguageModel)):
        tokenizer = Tokenizer.parse(text, where)
        if tokenizer.vocab != net.config.vocab:
            entries = f"{tokenizer.vocab} entries and the text encoder reads {net.config.vocab}"
            raise InputError(f"the vocabulary of {bundle.path} has {entries}.", code="mismatch")
        if personal:
            tokenizer = add_words(tokenizer, net.token_embedding.weight, personal)
        if isinstance(net, Clip):
            return NetEncoder(net, tokenizer, net.config.text_width, net.config.embed_dim)
        return NetEncoder(net, tokenizer, net.config.width, net.config.width)
    return T5Encoder(net, text, int(bundle.configs[entry.name]["widths"]["context"]), where)


def build_stage(bundle: Bundle, entry: StageEntry, net: nn.Module) -> Stage:
    """The stage around its network. Raises InputError for an unknown process, sampler, schedule or number of steps."""
    config = bundle.configs[entry.name]
    try:
        process, prediction = from_config(as_table(config["process"], "process")), config["prediction"]
        if prediction not in PREDICTIONS:
            raise ValueError(f"prediction is {shown(prediction)}, not one of {', '.join(PREDICTIONS)}")
    except (T2IError, LookupError, TypeError, ValueError) as error:
        raise _strange_config(bundle, entry, error) from error
    try:
        stage = Stage(entry.name, net, process, prediction, entry.defaults.check())
        stage.sigmas(stage.defaults)  # raises for an unknown schedule now, not at the first picture
    except (T2IError, LookupError, TypeError, ValueError) as error:
        raise broken(bundle.path / MANIFEST, f"the defaults of {entry.name!r}: {_sentence(error)}") from error
    return stage


def build_direct(
    manifest: Manifest, nets: Mapping[str, nn.Module], encoder: TextEncoder
) -> TokenStage | GanStage | None:
    """The stage that draws the smallest picture without diffusion; None for a model with a base. nets: by kind."""
    found = [entry for kind in DIRECT for entry in manifest.of_kind(kind)]
    if not found:
        return None
    entry, net = found[0], nets[found[0].kind]
    if isinstance(net, Generator):
        return GanStage(entry.name, net, entry.defaults)
    vae = nets["vae"]
    assert isinstance(net, DalleTransformer) and isinstance(vae, VAE) and isinstance(encoder, NetEncoder)
    return TokenStage(entry.name, net, vae, encoder.tokenizer, entry.defaults)


def _strange_config(bundle: Bundle, entry: StageEntry, error: Exception) -> InputError:
    """The error for a stage's config.json that cannot be used."""
    name = entry.files[0]
    return broken(bundle.place(name) / name, _sentence(error))


def _sentence(error: Exception) -> str:
    """What is wrong, without a full stop."""
    if isinstance(error, KeyError):
        return f"the key {shown(error.args[0])} is missing"
    why = error.message if isinstance(error, T2IError) else str(error).strip().split("\n")[-1].strip()
    return why[:200].rstrip(".") or type(error).__name__


def _strange(bundle: Bundle, entry: StageEntry, what: str, error: Exception) -> InputError:
    place = bundle.place(entry.folder) / entry.folder
    return InputError(f"{place} cannot be used: {what}.", f"It says: {_sentence(error)}", "bundle")
