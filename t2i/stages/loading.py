"""From a bundle's files to stages: networks built from their config, with the stored weights in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from t2i.diffusion.process import from_config
from t2i.errors import InputError, T2IError
from t2i.nets.clip import Clip, ClipConfig
from t2i.nets.language import LanguageConfig, LanguageModel
from t2i.nets.prior import PriorConfig, build_prior
from t2i.nets.sr_unet import SRUNet, SRUNetConfig
from t2i.nets.unet import UNet
from t2i.nets.unet_config import UNetConfig
from t2i.nets.upsampler import Upsampler, UpsamplerConfig
from t2i.stages.stage import Stage
from t2i.store.bundle import Bundle
from t2i.store.manifest import StageEntry
from t2i.text.encoder import NetEncoder, TextEncoder
from t2i.text.t5 import T5Encoder, build_t5, fill_t5
from t2i.text.tokenizer import Tokenizer

NETS: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "language": lambda config: LanguageModel(LanguageConfig.from_dict(config)),
    "t5": build_t5,
    "clip": lambda config: Clip(ClipConfig.from_dict(config)),
    "prior": lambda config: build_prior(PriorConfig.from_dict(config)),
    "base": lambda config: UNet(UNetConfig.from_dict(config)),
    "upsampler": lambda config: Upsampler(UpsamplerConfig.from_dict(config)),
    "sr_unet": lambda config: SRUNet(SRUNetConfig.from_dict(config)),
    "sharp": lambda config: Upsampler(UpsamplerConfig.from_dict(config)),
}
"""How each kind of stage builds its network from its config. A stage of several designs names its own: `encoder` in the
config of a text stage, `design` in that of an upsampler."""
PIXELS = ("base", "upsampler")
"""The kinds of stage that make pictures."""


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


def load_net(bundle: Bundle, entry: StageEntry) -> nn.Module:
    """A stage's network with its weights. Raises InputError if config and weights do not match."""
    config, state = bundle.load_stage(entry.name)
    try:
        kind = config["encoder"] if entry.kind == "text" else config.get("design", entry.kind)
        with torch.device("meta"), Unfilled():
            net = NETS[kind](config["net"])
        if kind == "t5":
            fill_t5(net, state)
        else:
            net.load_state_dict(state, assign=True)
    except (T2IError, LookupError, TypeError, ValueError, RuntimeError) as error:
        raise _strange(bundle, entry, "its weights and its config.json do not belong together", error) from error
    return net


def load_encoder(bundle: Bundle, entry: StageEntry, net: nn.Module) -> TextEncoder:
    """The text encoder: the network of a stage of kind `clip` or `text`, with the bundle's tokenizer.

    Raises InputError if the two do not match.
    """
    where, text = str(bundle.path / "tokenizer.json"), bundle.tokenizer_json() or ""
    if isinstance(net, (Clip, LanguageModel)):
        tokenizer = Tokenizer.parse(text, where)
        if tokenizer.vocab != net.config.vocab:
            entries = f"{tokenizer.vocab} entries and the text encoder reads {net.config.vocab}"
            raise InputError(f"the vocabulary of {bundle.path} has {entries}.", code="mismatch")
        if isinstance(net, Clip):
            return NetEncoder(net, tokenizer, net.config.text_width, net.config.embed_dim)
        return NetEncoder(net, tokenizer, net.config.width, net.config.width)
    return T5Encoder(net, text, int(bundle.configs[entry.name]["widths"]["context"]), where)


def build_stage(bundle: Bundle, entry: StageEntry, net: nn.Module) -> Stage:
    """The stage around its network. Raises InputError for an unknown process, sampler, schedule or number of steps."""
    config = bundle.configs[entry.name]
    try:
        stage = Stage(entry.name, net, from_config(config["process"]), config["prediction"], entry.defaults.check())
        stage.sigmas(stage.defaults)  # raises for an unknown schedule now, not at the first picture
        return stage
    except (T2IError, LookupError, TypeError, ValueError) as error:
        raise _strange(bundle, entry, "its settings cannot be understood", error) from error


def _strange(bundle: Bundle, entry: StageEntry, what: str, error: Exception) -> InputError:
    why = error.message if isinstance(error, T2IError) else str(error).strip().split("\n")[-1].strip()
    hint = f"It says: {why[:200]}" if why else "Fetch or train this model again."
    return InputError(f"{bundle.path / entry.folder} cannot be used: {what}.", hint, "bundle")
