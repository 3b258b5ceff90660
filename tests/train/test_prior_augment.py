"""Embeddings redrawn by a prior: a perfect prior changes nothing, another one changes the share that is asked for."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.prior import PriorCond
from t2i.text.cond import TextCond
from t2i.train.prior_augment import TIMES, augment

N, WIDTH = 64, 16


class Knows(nn.Module):
    """A prior that always answers with the same embeddings, and remembers the levels it was asked at."""

    def __init__(self, answer: Tensor) -> None:
        super().__init__()
        self.answer, self.levels = answer * WIDTH**0.5, list[Tensor]()

    def forward(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        self.levels.append(t)
        return self.answer


def unit(seed: int) -> Tensor:
    return F.normalize(torch.randn(N, WIDTH, generator=torch.Generator().manual_seed(seed)), dim=-1)


def text() -> TextCond:
    return TextCond(torch.zeros(N, 2, 4), torch.ones(N, 2, dtype=torch.bool), torch.zeros(N, WIDTH))


def g() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_the_truth_stays() -> None:
    z = unit(0)
    torch.testing.assert_close(augment(Knows(z), z, text(), 1.0, g()), z)


def test_a_share_is_the_priors() -> None:
    z, other = unit(0), unit(1)
    made = augment(Knows(other), z, text(), 0.5, g())
    theirs = (made * other).sum(-1) > 0.999
    assert 0.3 < theirs.float().mean() < 0.7
    assert torch.equal(made[~theirs], z[~theirs])
    assert torch.equal(augment(Knows(other), z, text(), 0.0, g()), z)


def test_the_way_back_begins_in_the_middle() -> None:
    prior = Knows(unit(1))
    augment(prior, unit(0), text(), 1.0, g())
    first = prior.levels[0]
    assert TIMES[0] <= float(first.min()) and float(first.max()) <= TIMES[1]
    assert all((a > b).all() for a, b in zip(prior.levels, prior.levels[1:], strict=False))
    assert (prior.levels[-1] > 0).all()
