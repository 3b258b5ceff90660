"""The named random streams of a training run: examples, noise, first weights.

Every random number of a training is a function of (run seed, stream, step), so a checkpoint needs no generator state,
and one part of a run never changes the numbers of another. The integers below are fixed for ever: another one would
train other weights from the same command.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from t2i.rng import digest, generator

OFFSETS = {
    "clip": 0,
    "base": 1,
    "prior": 2,
    "upsampler": 3,
    "tokenizer": 4,
    "text": 5,
    "clip_locked": 6,
    "distill_reader": 7,
    "sheets": 9,
    "vae": 10,
    "dalle": 11,
    "gan": 12,
    "lora": 13,
    "student": 14,
}
"""Stream of examples -> what is added to the run's seed. Two streams show different pictures and captions; the
upsamplers share one. "tokenizer" is also read for the list of known words, "sheets" only for sample sheets."""

N = TypeVar("N", bound=nn.Module)


def examples_seed(run_seed: int, stream: str) -> int:
    """The seed that a `Source` draws the examples of a stream from."""
    return run_seed + OFFSETS[stream]


def noise(run_seed: int, stream: str, step: int) -> torch.Generator:
    """The generator (on the CPU) of everything else that is random in a step: noise, dropped conditions, masks, crops.

    A stream of noise is named by its stage, or by the objective where several objectives can train one stage."""
    return generator(run_seed, stream, step)


def first_weights(run_seed: int, stream: str, build: Callable[[], N]) -> N:
    """The network that `build` makes, its first weights a function of the seed and the stream's name.

    torch's initialisers take no generator; the global one is seeded for a moment and left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(digest(run_seed, "init", stream) % 2**63)
        return build()
