"""The frozen text encoder, and its CLIP, that other stages are trained with."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from t2i.errors import InputError
from t2i.nets.clip import Clip
from t2i.stages.loading import load_encoder, load_net
from t2i.store.bundle import Bundle
from t2i.store.compatibility import ENCODERS
from t2i.text.cache import CachedEncoder
from t2i.text.encoder import NetEncoder, TextEncoder
from t2i.text.tokenizer import Tokenizer
from t2i.train.run import Run


@dataclass(frozen=True)
class Encoders:
    """text: reads captions. clip: embeds pictures too, None where the text encoder has seen none. tokenizer: ours, None
    for a T5. cache: `text` again, where its results are kept on disk. A stage that reads no text is given none of them,
    the text encoder's own training only the tokenizer."""

    text: TextEncoder | None = None
    clip: Clip | None = None
    tokenizer: Tokenizer | None = None
    cache: CachedEncoder | None = None


def encoders_of(bundle: Bundle | None, out: Path, stage: str, device: torch.device) -> Encoders:
    """The encoders in the bundle that is being trained. stage: what the recipe calls its encoder. Raises InputError."""
    entries = [e for e in bundle.manifest.stages if e.kind in ENCODERS] if bundle else []
    if bundle is None or not entries:
        what = "CLIP" if stage == "clip" else "text encoder"
        raise InputError(f"{out} holds no {what} yet", train_first(stage), "data")
    net = load_net(bundle, entries[0]).to(device).eval().requires_grad_(False)
    encoder = load_encoder(bundle, entries[0], net)
    tokenizer = encoder.tokenizer if isinstance(encoder, NetEncoder) else None
    return Encoders(encoder, net if isinstance(net, Clip) else None, tokenizer)


def read_once(run: Run, encoders: Encoders, captions: Iterator[str], total: int, stage: str) -> Encoders:
    """The encoders with a cache of `captions` on disk, where encoding them at every step would cost too much.

    That is where the encoder is a T5, or the data a folder, whose captions come again and again. CLIP and the language
    model read the built-in world's captions faster than a cache would. Raises InputError (code `mismatch`) where
    another encoder filled the cache.
    """
    recipe = run.recipe
    cheap = recipe.encoder == "clip" or (not recipe.stages[recipe.encoder].copied and run.pictures.data == "scenes")
    if cheap or encoders.text is None:
        return encoders
    cache = CachedEncoder(encoders.text, run.out / ".train" / "texts")

    def watched() -> Iterator[str]:
        for i, text in enumerate(captions):
            if i % 1000 == 0:
                run.report({"event": "embed", "stage": stage, "step": i, "steps": total})
            yield text

    run.team.first(lambda: cache.fill(watched(), stop=run.stop))
    if not run.team.leads:
        cache = CachedEncoder(encoders.text, cache.folder)  # with what the first process wrote
    return replace(encoders, text=cache, cache=cache)


def train_first(stage: str) -> str:
    """The hint where a stage is missing that others learn from."""
    return f"train {stage} first: t2i train {stage} --out …"
