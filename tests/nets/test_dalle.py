"""DALL·E's transformer: what each layer reads, and that drawing with a cache computes what training does."""

from __future__ import annotations

import pytest
import torch
from filling import fill

from t2i.errors import InputError
from t2i.nets.dalle import PAD, DalleConfig, DalleTransformer, attention_mask
from t2i.rng import generator

CONTEXT, GRID = 6, 4


def reads(kind: str, row: int, column: int, kernel: int = 3) -> set[tuple[int, int]]:
    """The tokens of the picture that the token at (row, column) reads."""
    mask = attention_mask(kind, CONTEXT, GRID, kernel)
    seen = mask[CONTEXT + row * GRID + column]
    assert bool(seen[:CONTEXT].all())  # all of the text
    return {divmod(j, GRID) for j in seen[CONTEXT:].nonzero().flatten().tolist()}


def test_the_masks_are_those_of_figure_11() -> None:
    """A text of 6 tokens and a picture of 4 x 4, as drawn there."""
    assert reads("row", 2, 1) == {(1, 1), (1, 2), (1, 3), (2, 0), (2, 1)}  # five tokens, up to the one above
    assert reads("column", 2, 1) == {(0, 1), (1, 1), (2, 1)}
    assert reads("conv", 2, 1) == {(1, 0), (1, 1), (1, 2), (2, 0), (2, 1)}
    assert reads("conv", 2, 0) == {(0, 3), (1, 0), (1, 1), (1, 3), (2, 0)}  # wrapped at the edge
    assert reads("full", 1, 1) == {(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)}
    assert reads("row", 0, 0) == reads("column", 0, 0) == reads("conv", 0, 0) == {(0, 0)}


@pytest.mark.parametrize("kind", ["full", "row", "column", "conv"])
def test_nothing_reads_what_comes_after(kind: str) -> None:
    mask = attention_mask(kind, CONTEXT, GRID, 3)
    assert not bool(mask.triu(1).any()) and bool(mask.diagonal().all())
    text = mask[:CONTEXT, :CONTEXT]
    assert torch.equal(text, torch.ones_like(text).tril())  # the text is read causally


def test_the_pattern_of_the_layers() -> None:
    assert DalleConfig(layers=8, attention="sparse").pattern == (
        "row", "column", "row", "row", "row", "column", "row", "conv",
    )  # fmt: skip
    assert DalleConfig(layers=2).pattern == ("full", "full")
    with pytest.raises(InputError, match="odd"):
        DalleConfig(kernel=4)
    with pytest.raises(InputError, match="multiple of heads"):
        DalleConfig(width=30, heads=4)


@pytest.fixture(params=["full", "sparse"])
def net(request: pytest.FixtureRequest) -> DalleTransformer:
    config = DalleConfig(
        vocab=30, context=CONTEXT, codes=9, grid=GRID, width=16, layers=4, heads=2, attention=request.param, kernel=3
    )
    built = fill(DalleTransformer(config), 0)
    assert isinstance(built, DalleTransformer)
    return built.eval()


def batch(rows: int) -> tuple[torch.Tensor, torch.Tensor]:
    g = generator("batch")
    text = torch.randint(1, 30, (rows, CONTEXT), generator=g)
    text[0, 3:] = PAD
    return text, torch.randint(9, (rows, GRID**2), generator=g)


@torch.no_grad()
def test_cached_logits_equal_uncached_ones(net: DalleTransformer) -> None:
    text, image = batch(3)
    _, wanted = net(text, image)
    caches = net.caches(3)
    got = [net.start(text, caches)]
    got += [net.step(image[:, i], i, caches) for i in range(GRID**2 - 1)]
    torch.testing.assert_close(torch.stack(got, dim=1), wanted, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_logit_depends_on_what_stands_before_it_alone(net: DalleTransformer) -> None:
    text, image = batch(2)
    said, drawn = net(text, image)
    assert said.shape == (7, 30) and drawn.shape == (2, GRID**2, 9)
    changed = image.clone()
    changed[:, 7:] = (changed[:, 7:] + 1) % 9
    said_too, drawn_too = net(text, changed)
    assert torch.equal(said, said_too)
    torch.testing.assert_close(drawn[:, :8], drawn_too[:, :8])  # token 7 itself is predicted from those before it
    assert not torch.allclose(drawn[:, 8:], drawn_too[:, 8:])
    other = text.clone()
    other[1, -1] = 1 + other[1, -1] % 29  # the last token of the text that fills its context
    said_too, drawn_too = net(other, image)
    torch.testing.assert_close(said, said_too)
    assert not torch.allclose(drawn[1, 0], drawn_too[1, 0])


@torch.no_grad()
def test_each_place_has_its_own_padding(net: DalleTransformer) -> None:
    x = net.embed_text(torch.full((1, CONTEXT), PAD)) - net.text_position_embedding
    assert len(torch.unique(x[0], dim=0)) == CONTEXT
    assert torch.equal(x[0], net.pad_embedding + net.text_position_embedding - net.text_position_embedding)
