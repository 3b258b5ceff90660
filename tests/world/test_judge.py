from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from t2i.errors import InputError
from t2i.lab.judge_loss import Mark, Truth, damage, focal, loss, targets
from t2i.world.judge import GRID, Judge, JudgeNet, Maps, decode, to_input
from t2i.world.judge_config import JudgeConfig
from t2i.world.shapes import draw_shape

CONFIG = JudgeConfig(("circle", "star", "fish"), ("red", "own"), ("plain", "snow"), ("white", "grey"), (16, 24, 32, 24))


def perfect(truths: list[Truth], config: JudgeConfig = CONFIG) -> Maps:
    """The maps a net would give that knows the truth."""
    t = targets(truths, config)

    def sure(choice: Tensor, n: int) -> Tensor:
        return torch.nn.functional.one_hot(choice.clamp_min(0), n).movedim(-1, 1).float() * 12

    return Maps(
        torch.logit(t.centre.clamp(1e-4, 1 - 1e-4)), sure(t.thing, len(config.things)),
        sure(t.colour, len(config.colours)), t.box, sure(t.place, 2), sure(t.shade, 2),
    )  # fmt: skip


TRUTHS = [
    Truth((Mark("fish", "red", 0.3, 0.62, 0.4, 0.3), Mark("star", "own", 0.74, 0.3, 0.3, 0.2)), "snow", None),
    Truth(tuple(Mark("circle", "red", 0.14 + 0.24 * i, 0.5, 0.22, 0.22) for i in range(4)), "plain", "grey"),
    Truth((), "plain", "white"),
]


def test_decoding_the_targets_gives_the_truth_back() -> None:
    for truth, reading in zip(TRUTHS, decode(perfect(TRUTHS), CONFIG), strict=True):
        assert (reading.place, reading.shade) == (truth.place, truth.shade)
        assert len(reading.objects) == len(truth.marks)
        ours = sorted(truth.marks, key=lambda m: m.x)
        for mark, found in zip(ours, sorted(reading.objects, key=lambda f: f.x), strict=True):
            assert (found.thing, found.colour) == (mark.thing, mark.colour)
            assert found.x == pytest.approx(mark.x, abs=1e-4) and found.y == pytest.approx(mark.y, abs=1e-4)
            assert (found.w, found.h) == pytest.approx((mark.w, mark.h), abs=1e-4)
            assert found.score > 0.9


def test_a_twin_peak_on_one_object_counts_once() -> None:
    maps = perfect([Truth((Mark("fish", "red", 0.5, 0.5, 0.6, 0.5),), "snow", None)])
    maps.centre[0, 8, 11] = 3.0
    maps.thing[0, :, 8, 11], maps.box[0, :, 8, 11] = maps.thing[0, :, 8, 8], maps.box[0, :, 8, 8]
    assert len(decode(maps, CONFIG)[0].objects) == 1
    maps.box[0, :2, 8, 11] = 0.1  # a small one beside it is another
    assert len(decode(maps, CONFIG)[0].objects) == 2


def test_the_threshold_decides_what_counts() -> None:
    maps = perfect(TRUTHS[:1])
    assert len(decode(maps, replace(CONFIG, threshold=0.99999))[0].objects) == 0


def test_the_loss_is_least_at_the_truth() -> None:
    t = targets(TRUTHS, CONFIG)
    good, parts = loss(perfect(TRUTHS), t)
    assert set(parts) == {"centre", "thing", "colour", "box", "place", "shade"}
    generator = torch.Generator().manual_seed(0)
    maps = perfect(TRUTHS)
    noisy = Maps(*(torch.randn(m.shape, generator=generator) for m in vars(maps).values()))
    assert float(good) < 0.2 * float(loss(noisy, t)[0])


def test_focal_loss_against_its_formula_by_hand() -> None:
    logits, target = torch.zeros(1, 1, 2), torch.tensor([[[1.0, 0.5]]])
    expected = -(0.25 * np.log(0.5) + 0.5**4 * 0.25 * np.log(0.5))
    assert float(focal(logits, target)) == pytest.approx(expected, rel=1e-5)


def test_an_object_at_the_border_stays_on_the_grid() -> None:
    t = targets([Truth((Mark("fish", "red", 1.02, -0.01, 0.4, 0.3),), "snow", None)], CONFIG)
    assert float(t.centre[0, 0, GRID - 1]) == 1.0


@pytest.mark.parametrize("side", [32, 64, 100, 256])
def test_any_size_is_read(side: int) -> None:
    x = torch.full((2, 3, side, side), 0.25)
    assert to_input(x).shape == (2, 3, 64, 64)
    assert torch.allclose(to_input(x), torch.tensor(0.25), atol=1e-5)


def test_damage_keeps_range_and_is_repeatable() -> None:
    x = torch.rand(8, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    a, b = (damage(x, torch.Generator().manual_seed(2)) for _ in range(2))
    assert torch.equal(a, b) and float(a.abs().max()) <= 1
    assert 0.01 < float((a - x).abs().mean()) < 0.4


def test_save_and_load(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = JudgeNet(CONFIG)
    x = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(1)) * 2 - 1
    net.train()
    net(x)  # moves the running statistics off their start
    net.eval()
    Judge(net).save(tmp_path)
    judge = Judge.load(tmp_path)
    assert judge.config == replace(CONFIG, folded=True)
    with torch.no_grad():
        for ours, theirs in zip(vars(net(x)).values(), vars(judge.net(x)).values(), strict=True):
            assert torch.allclose(ours, theirs, atol=2e-2)
    alone = [judge.read(x[i : i + 1])[0] for i in range(4)]
    for a, b in zip(judge.read(x), alone, strict=True):  # a reading never depends on the batch
        assert (a.place, a.shade, len(a.objects)) == (b.place, b.shade, len(b.objects))
        assert a.place_score == pytest.approx(b.place_score, abs=1e-5)
    unfolded = judge.net.unfold(torch.rand(32, 3, 64, 64, generator=torch.Generator().manual_seed(2)))
    assert not unfolded.config.folded
    with torch.no_grad():
        for ours, theirs in zip(vars(unfolded(x)).values(), vars(judge.net(x)).values(), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-3)
    blob = bytearray((tmp_path / "model.safetensors").read_bytes())
    blob[-3] ^= 1
    (tmp_path / "model.safetensors").write_bytes(blob)
    with pytest.raises(InputError, match="damaged"):
        Judge.load(tmp_path)
    record = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, "schema": 99}))
    with pytest.raises(InputError, match="schema"):
        Judge.load(tmp_path)
    with pytest.raises(InputError):
        Judge.load(tmp_path / "nowhere")


def test_it_learns_three_shapes_in_seconds() -> None:
    """A few steps on shapes pasted by hand: everything from targets to decoding must fit together."""
    generator = torch.Generator().manual_seed(3)
    drawn = {name: torch.from_numpy(draw_shape(name, 24)) for name in CONFIG.things}
    sprites = [picture.permute(2, 0, 1).float() / 255 for picture in drawn.values()]

    def picture() -> tuple[Tensor, Truth]:
        grey = float(torch.rand(1, generator=generator)) < 0.5
        which, x, y = torch.randint(0, 39, (3,), generator=generator).tolist()
        which %= 3
        canvas = torch.full((3, 64, 64), 0.55 if grey else 0.95)
        sprite, name = sprites[which], CONFIG.things[which]
        part = canvas[:, y : y + 24, x : x + 24]
        canvas[:, y : y + 24, x : x + 24] = part * (1 - sprite[3:]) + sprite[:3] * sprite[3:]
        mark = Mark(name, "red" if name == "circle" else "own", (x + 12) / 64, (y + 12) / 64, 0.375, 0.375)
        return canvas * 2 - 1, Truth((mark,), "plain", "grey" if grey else "white")

    def pictures(n: int) -> tuple[Tensor, list[Truth]]:
        pairs = [picture() for _ in range(n)]
        return torch.stack([p for p, _ in pairs]), [t for _, t in pairs]

    torch.manual_seed(0)
    net = JudgeNet(CONFIG)
    optimiser = torch.optim.AdamW(net.parameters(), lr=4e-3)
    for _ in range(60):
        pixels, truths = pictures(32)
        optimiser.zero_grad()
        loss(net(pixels), targets(truths, CONFIG))[0].backward()
        optimiser.step()
    pixels, truths = pictures(64)
    right = 0
    for reading, truth in zip(Judge(net).read(pixels), truths, strict=True):
        mark = truth.marks[0]
        right += any(
            f.thing == mark.thing and f.colour == mark.colour and abs(f.x - mark.x) < 0.06 for f in reading.objects
        )
        right += reading.shade == truth.shade
    assert right >= 0.9 * 128
