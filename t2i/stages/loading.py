"""From a bundle's files to stages: networks with the stored weights in them, the text encoder, what draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from t2i.diffusion.denoiser import PREDICTIONS
from t2i.diffusion.process import from_config
from t2i.errors import InputError, T2IError
from t2i.nets.clip import Clip
from t2i.nets.dalle import DalleTransformer
from t2i.nets.gan import Generator
from t2i.nets.language import LanguageModel
from t2i.nets.vae import VAE
from t2i.schema import as_table, shown
from t2i.stages.dalle import TokenStage
from t2i.stages.designs import build_net, config_error, design_of, sentence, stage_error
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
from t2i.text.t5 import TIED, T5Encoder, fill_t5
from t2i.text.tokenizer import Tokenizer

DIFFUSION = ("prior", "base", "upsampler")
"""The kinds of stage that draw by diffusion."""
PIXELS = ("base", "upsampler", "gan")
"""The kinds of stage that are loaded in the number format asked for; the others are small."""


def load_net(bundle: Bundle, entry: StageEntry) -> nn.Module:
    """A stage's network with its weights. Raises InputError if config and weights do not match."""
    net = build_net(bundle, entry)
    _, state = bundle.load_stage(entry.name)
    try:
        if design_of(bundle, entry) == "t5":
            fill_t5(net, state)
        else:
            net.load_state_dict(state, assign=True)
    except (LookupError, TypeError, ValueError, RuntimeError) as error:
        raise stage_error(bundle, entry, "its weights and its config.json do not belong together", error) from error
    return net


def check_stage(bundle: Bundle, entry: StageEntry) -> None:
    """Raise InputError unless a stage's settings can be understood and its weights have the names, the shapes and the
    kinds of number that its network asks for. No weights are loaded."""
    net = build_net(bundle, entry)
    if entry.kind in DIFFUSION:
        build_stage(bundle, entry, net)
    wanted = {name: (tuple(t.shape), t.is_floating_point()) for name, t in net.state_dict().items()}
    if design_of(bundle, entry) == "t5":
        wanted.pop(TIED, None)
    found = {name: (shape, dtype in FLOATING) for name, (dtype, shape) in bundle.layout(entry.name).items()}
    for name in sorted(wanted.keys() | found.keys()):
        if wanted.get(name) != found.get(name):
            why = "is missing" if name not in found else "has no place" if name not in wanted else "is another tensor"
            error = ValueError(f"{name[:80]!r} {why}")
            raise stage_error(bundle, entry, "its weights and its config.json do not belong together", error)


def check_loads(bundle: Bundle) -> None:
    """Load all that a bundle's stages need to draw. Raises InputError at the first fault, UnavailableError where a
    library is missing."""
    for entry in bundle.manifest.stages:
        check_stage(bundle, entry)
        net = load_net(bundle, entry)
        if entry.kind in ENCODERS:
            load_encoder(bundle, entry, net)


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
        raise config_error(bundle, entry, error) from error
    try:
        stage = Stage(entry.name, net, process, prediction, entry.defaults.check())
        stage.sigmas(stage.defaults)  # raises for an unknown schedule now, not at the first picture
    except (T2IError, LookupError, TypeError, ValueError) as error:
        raise broken(bundle.path / MANIFEST, f"the defaults of {entry.name!r}: {sentence(error)}") from error
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
