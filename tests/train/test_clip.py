"""CLIP's and SigLIP's contrastive losses against torch's cross-entropies."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from t2i.data.source import Examples
from t2i.train.objectives.clip import contrastive_loss

SCALE = torch.tensor(2.0)


def examples(content: str, loose: str) -> Examples:
    return Examples(torch.zeros(0), [], list(content), list(loose))


def pairs(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(0)
    return F.normalize(torch.randn(n, 8, generator=g), dim=-1), F.normalize(torch.randn(n, 8, generator=g), dim=-1)


def test_softmax_is_cross_entropy_both_ways() -> None:
    a, b = pairs(5)
    logits, right = a @ b.T * SCALE.exp(), torch.arange(5)
    wanted = (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
    torch.testing.assert_close(contrastive_loss(a, b, SCALE, None, examples("abcde", "vwxyz")), wanted)


def test_sigmoid_is_binary_cross_entropy_of_all_pairs() -> None:
    a, b = pairs(5)
    logits = a @ b.T * SCALE.exp() - 3
    wanted = F.binary_cross_entropy_with_logits(logits, torch.eye(5), reduction="sum") / 5
    got = contrastive_loss(a, b, SCALE, torch.tensor(-3.0), examples("abcde", "vwxyz"))
    torch.testing.assert_close(got, wanted)


def test_equal_contents_are_right_answers_and_near_ones_left_out() -> None:
    a, _ = pairs(3)
    # two pictures of one content: each may be given to either, at no loss but that of the third
    same = contrastive_loss(a[[0, 0, 2]], a[[0, 0, 2]], torch.tensor(6.0), None, examples("aac", "xxz"))
    assert float(same) < 1e-3
    b = a.clone()
    b[1] = a[0]  # wrong for the second, unless the two say nearly the same
    wrong = contrastive_loss(a, b, torch.tensor(6.0), None, examples("abc", "xyz"))
    near = contrastive_loss(a, b, torch.tensor(6.0), None, examples("abc", "xxz"))
    assert float(near) < float(wrong) / 2
