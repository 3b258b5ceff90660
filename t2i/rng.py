"""Noise that belongs to a picture: keyed by (seed, stage, step), never by its place in a batch.

Everything random in the package comes from :func:`generator`; nothing draws from torch's global generator.
Draws are made on the CPU in float32 and moved afterwards, so that a seed means the same on every device.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

_SKIP_BITS = 15


class NoiseSource(Protocol):
    """Unit Gaussian noise for step ``step``, with the shape (B, ...), dtype and device of ``like``."""

    def __call__(self, step: int, like: Tensor) -> Tensor: ...


def digest(*key: int | str) -> int:
    """64 bits (blake2b) of the key; ``1`` and ``"1"`` differ, ``("a", "bc")`` and ``("ab", "c")`` too."""
    words = [k if isinstance(k, str) else int(k) for k in key]
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "little")


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that is a function of ``key`` alone, e.g. ``generator(run_seed, "train", step, rank)``.

    torch's CPU engine (mt19937) keeps only the low 32 bits of a seed: a hundred thousand keys would hold a
    pair with equal noise more often than not. Other bits of the hash therefore choose how far into its stream
    we start.
    """
    h = digest(*key)
    g = torch.Generator().manual_seed(h & 0xFFFFFFFF)
    skip = (h >> 32) & ((1 << _SKIP_BITS) - 1)
    if skip:
        torch.empty(skip, dtype=torch.int32).random_(generator=g)
    return g


def noise(seeds: Sequence[int], stage: str, step: int, shape: Sequence[int]) -> Tensor:
    """Unit Gaussian noise, float32 on the CPU, (B, *shape) for B seeds; row i depends on ``seeds[i]`` alone.

    Step 0 is the noise a trajectory starts from; step i >= 1 is what the i-th step of a stochastic sampler
    adds.
    """
    if not seeds:
        return torch.empty((0, *shape))
    rows = [torch.randn(tuple(shape), generator=generator("noise", s, stage, step)) for s in seeds]
    return torch.stack(rows)


@dataclass(frozen=True)
class SeededNoise:
    """The :class:`NoiseSource` of one stage: row i of the noise belongs to ``seeds[i]``."""

    seeds: tuple[int, ...]
    stage: str

    def __call__(self, step: int, like: Tensor) -> Tensor:
        assert like.shape[0] == len(self.seeds), f"{like.shape[0]} rows for {len(self.seeds)} seeds"
        return noise(self.seeds, self.stage, step, like.shape[1:]).to(like.device, like.dtype)
