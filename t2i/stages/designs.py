"""The networks that a bundle's stages can have, built from their config.json without weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

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
from t2i.store.bundle import Bundle
from t2i.store.manifest import StageEntry, broken
from t2i.text.t5 import build_t5


@dataclass(frozen=True)
class Design:
    """A network that a stage can have.

    kind: of the stage. build: makes the network from the table `net` of config.json. widths: key of the table
    `widths` beside it -> the key of the network's config that it repeats.
    """

    kind: str
    build: Callable[[dict[str, Any]], nn.Module]
    widths: Mapping[str, str]


NETWORKS: dict[str, Design] = {
    "language": Design(
        "text",
        lambda net: LanguageModel(LanguageConfig.from_dict(net)),
        {"text_dim": "width", "context": "context", "vocab": "vocab"},
    ),
    "t5": Design("text", build_t5, {"text_dim": "d_model", "vocab": "vocab_size"}),
    "clip": Design(
        "clip",
        lambda net: Clip(ClipConfig.from_dict(net)),
        {"embed_dim": "embed_dim", "text_dim": "text_width", "context": "context", "vocab": "vocab"},
    ),
    "prior": Design(
        "prior",
        lambda net: build_prior(PriorConfig.from_dict(net)),
        {"embed_dim": "embed_dim", "text_dim": "token_dim"},
    ),
    "base": Design(
        "base", lambda net: UNet(UNetConfig.from_dict(net)), {"cond_dim": "cond_dim", "text_dim": "text_dim"}
    ),
    "gan": Design(
        "gan",
        lambda net: Generator(GeneratorConfig.from_dict(net)),
        {"embed_dim": "embed_dim", "text_dim": "token_dim", "size": "size"},
    ),
    "dalle": Design(
        "dalle",
        lambda net: DalleTransformer(DalleConfig.from_dict(net)),
        {"codes": "codes", "grid": "grid", "context": "context", "vocab": "vocab"},
    ),
    "vae": Design("vae", lambda net: VAE(VAEConfig.from_dict(net)), {"codes": "tokens"}),
    "upsampler": Design("upsampler", lambda net: Upsampler(UpsamplerConfig.from_dict(net)), {"text_dim": "pooled_dim"}),
    "sr_unet": Design(
        "upsampler",
        lambda net: SRUNet(SRUNetConfig.from_dict(net)),
        {"cond_dim": "image_dim", "text_dim": "pooled_dim"},
    ),
}
"""By the name in config.json: `encoder` of a text stage, `design` of an upsampler. Elsewhere the name is the kind of
the stage."""


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


def build_net(bundle: Bundle, entry: StageEntry) -> nn.Module:
    """A stage's network on the meta device, without weights. Raises InputError for a config.json that no network has,
    or whose `widths` are not those of its network."""
    config, design = bundle.configs[entry.name], design_of(bundle, entry)
    try:
        with torch.device("meta"), Unfilled():
            net = NETWORKS[design].build(as_table(config.get("net"), "net"))
        sizes: Any = net.config
        widths = config["widths"]
        for key, own in NETWORKS[design].widths.items():
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
        raise config_error(bundle, entry, error) from error
    return net


def design_of(bundle: Bundle, entry: StageEntry) -> str:
    """The key of `NETWORKS` for a stage. Raises InputError."""
    config = bundle.configs[entry.name]
    found = config.get("encoder") if entry.kind == "text" else config.get("design", entry.kind)
    allowed = [name for name, design in NETWORKS.items() if design.kind == entry.kind]
    if found not in allowed:
        error = ValueError(f"the design of a stage of kind {entry.kind} is {shown(found)}, not {' or '.join(allowed)}")
        raise config_error(bundle, entry, error)
    return str(found)


def config_error(bundle: Bundle, entry: StageEntry, error: Exception) -> InputError:
    """The error for a stage's config.json that cannot be used."""
    name = entry.files[0]
    return broken(bundle.place(name) / name, sentence(error))


def sentence(error: Exception) -> str:
    """What is wrong, in words, without a full stop."""
    if isinstance(error, KeyError):
        return f"the key {shown(error.args[0])} is missing"
    why = error.message if isinstance(error, T2IError) else str(error).strip().split("\n")[-1].strip()
    return why[:200].rstrip(".") or type(error).__name__


def stage_error(bundle: Bundle, entry: StageEntry, what: str, error: Exception) -> InputError:
    """The error for a stage whose files cannot be used together."""
    place = bundle.place(entry.folder) / entry.folder
    return InputError(f"{place} cannot be used: {what}.", f"It says: {sentence(error)}", "bundle")
