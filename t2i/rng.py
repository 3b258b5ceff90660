"""Keyed random numbers. The noise of a picture is a function of (seed, stage, step), never of its place in a batch.

All random tensors of the package come from `generator`; the global generator of torch is never used. Numbers are
drawn on the CPU in float32 and then moved, so that a seed gives the same noise on every device. Only a training on a
GPU draws its large tensors there (`normal`).
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
    """Unit Gaussian noise for step `step`, with the shape (B, ...), dtype and device of `like`."""

    def __call__(self, step: int, like: Tensor) -> Tensor: ...


def digest(*key: int | str) -> int:
    """A 64-bit hash (blake2b) of the key. `1` and `"1"` differ, and so do `("a", "bc")` and `("ab", "c")`."""
    words = [k if isinstance(k, str) else int(k) for k in key]
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=8).digest(), "little")


def generator(*key: int | str) -> torch.Generator:
    """A CPU generator that is a function of `key` alone, e.g. `generator(run_seed, "train", step, rank)`.

    torch's CPU engine (mt19937) uses only the low 32 bits of a seed: among 100,000 keys two would more likely than not
    give equal noise. Another 15 bits of the hash set how many numbers are skipped first.
    """
    h = digest(*key)
    g = torch.Generator().manual_seed(h & 0xFFFFFFFF)
    skip = (h >> 32) & ((1 << _SKIP_BITS) - 1)
    if skip:
        torch.empty(skip, dtype=torch.int32).random_(generator=g)
    return g


def noise(seeds: Sequence[int], stage: str, step: int, shape: Sequence[int]) -> Tensor:
    """Unit Gaussian noise (B, *shape) for B seeds, float32 on the CPU; row i depends on `seeds[i]` alone.

    Step 0 is the noise that a trajectory starts from, step i >= 1 the noise that the i-th step of a stochastic sampler
    adds.
    """
    if not seeds:
        return torch.empty((0, *shape))
    rows = [torch.randn(tuple(shape), generator=generator("noise", s, stage, step)) for s in seeds]
    return torch.stack(rows)


def normal(shape: Sequence[int], g: torch.Generator, device: torch.device) -> Tensor:
    """Unit Gaussian noise for a training step on `device`, float32: on the CPU the numbers of the CPU generator `g`.

    A GPU draws them itself, from a generator of its own (Philox) that g's next number seeds; so a training has the
    same noise on GPUs of the same kind, and other noise than on a CPU.
    """
    if device.type == "cpu":
        return torch.randn(tuple(shape), generator=g)
    seed = int(torch.randint(2**62, (), generator=g))
    return torch.randn(tuple(shape), generator=torch.Generator(device).manual_seed(seed), device=device)


def gumbel(shape: Sequence[int], g: torch.Generator) -> Tensor:
    """Standard Gumbel noise -ln(-ln u), float32 on the CPU. argmax(logits + noise) is a draw from softmax(logits)."""
    return -torch.empty(tuple(shape)).exponential_(generator=g).clamp_min(1e-30).log()


def gumbel_noise(seeds: Sequence[int], stage: str, step: int, shape: Sequence[int]) -> Tensor:
    """Gumbel noise (B, *shape) for B seeds; row i depends on `seeds[i]` alone, as in `noise`."""
    return torch.stack([gumbel(shape, generator("gumbel", s, stage, step)) for s in seeds])


@dataclass(frozen=True)
class SeededNoise:
    """The `NoiseSource` of one stage: row i of the noise belongs to `seeds[i]`."""

    seeds: tuple[int, ...]
    stage: str

    def __call__(self, step: int, like: Tensor) -> Tensor:
        assert like.shape[0] == len(self.seeds), f"{like.shape[0]} rows for {len(self.seeds)} seeds"
        return noise(self.seeds, self.stage, step, like.shape[1:]).to(like.device, like.dtype)
