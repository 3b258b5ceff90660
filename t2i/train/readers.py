"""What reads the captions while other stages are trained: the frozen text encoder of the bundle, and its CLIP."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from t2i.data.source import Source
from t2i.errors import InputError
from t2i.nets.clip import Clip
from t2i.stages.loading import load_encoder, load_net
from t2i.store.bundle import Bundle
from t2i.store.compatibility import ENCODERS
from t2i.text.cache import CachedEncoder
from t2i.text.encoder import NetEncoder, TextEncoder
from t2i.text.t5 import T5Encoder, build_t5, fill_t5, read_t5
from t2i.text.tokenizer import Tokenizer
from t2i.train.loop import Report
from t2i.train.recipe import Recipe


@dataclass(frozen=True)
class Readers:
    """encoder: what reads captions; clip: what sees pictures too, None where the encoder has never seen one;
    tokenizer: ours, None beside a T5."""

    encoder: TextEncoder
    clip: Clip | None
    tokenizer: Tokenizer | None


def of_bundle(bundle: Bundle | None, out: Path, stage: str, device: torch.device) -> Readers:
    """Those of a bundle that is being trained; `stage` is what the recipe calls its encoder. Raises InputError."""
    entries = [e for e in bundle.manifest.stages if e.kind in ENCODERS] if bundle else []
    if bundle is None or not entries:
        what = "CLIP" if stage == "clip" else "text encoder"
        raise InputError(f"{out} holds no {what} yet", first(stage), "data")
    net = load_net(bundle, entries[0]).to(device).eval().requires_grad_(False)
    encoder = load_encoder(bundle, entries[0], net)
    tokenizer = encoder.tokenizer if isinstance(encoder, NetEncoder) else None
    return Readers(encoder, net if isinstance(net, Clip) else None, tokenizer)


def untrained(recipe: Recipe, build: Callable[[str], nn.Module], tokenizer: Tokenizer | None) -> Readers:
    """New ones of the recipe's sizes, to measure with; a T5 is read from its folder."""
    if tokenizer is None:
        parts = read_t5(Path(recipe.text.folder))
        t5 = build_t5(parts.config)
        fill_t5(t5, parts.weights)
        return Readers(T5Encoder(t5, parts.tokenizer, recipe.text.net.context), None, None)
    net = build(recipe.encoder)
    if isinstance(net, Clip):
        return Readers(NetEncoder(net, tokenizer, net.config.text_width, net.config.embed_dim), net, tokenizer)
    width = recipe.text.net.width
    return Readers(NetEncoder(net, tokenizer, width, width), None, tokenizer)  # type: ignore[arg-type]


def cached(
    encoder: TextEncoder, folder: Path, captions: Iterator[str], total: int, stage: str,
    report: Report, stop: Callable[[], bool],
) -> CachedEncoder:  # fmt: skip
    """The encoder with the `captions` of a training read once, into `folder`. Raises InputError where another encoder
    filled it."""
    cache = CachedEncoder(encoder, folder)

    def watched() -> Iterator[str]:
        for i, text in enumerate(captions):
            if i % 1000 == 0:
                report({"event": "embed", "stage": stage, "step": i, "steps": total})
            yield text

    cache.fill(watched(), stop=stop)
    return cache


def captions_of(source: Source, seed: int, n: int) -> Iterator[str]:
    """The captions of the first n pictures of a training."""
    return (source.captions(seed, i, 0) for i in range(n))


def first(stage: str) -> str:
    """What to do where there is no text encoder yet."""
    return f"train {stage} first: t2i train {stage} --out …"
