"""The gate on pictures that were made worse on purpose: it fails them, and says in words what happened."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from t2i.lab.gate_blanks import least_share, worst_alarm
from t2i.lab.gate_power import prompts_of_pool, rate_cell
from t2i.lab.planted_damage import EVERY_PICTURE, REPLACED, Damage
from t2i.score.baseline import ScoredSet
from t2i.score.gate import GateResult, MaxDrop, run_gate
from t2i.score.metric_table import PIXEL_METRICS
from t2i.score.metrics import PictureRow, average_by_unit
from t2i.score.pixel_stats import find_duplicates, pixel_stats
from t2i.score.recipe import NetworkInfo, ScoreRecipe
from t2i.score.thumbnails import encode_thumb

PROMPTS, SEEDS, SIDE = 8, 2, 128
RECIPE = ScoreRecipe(NetworkInfo("none", "0" * 64, 64, "area"))
SAYS = {
    "blur": "pictures are blurrier: sharpness -",
    "noise": "pictures are noisier: noise ",
    "JPEG": ("pictures show a lattice or blocks: lattice ", "pictures are blurrier: sharpness -"),
    "lattice": "pictures show a lattice or blocks: lattice ",
    "contrast": "pictures have less contrast: contrast -",
    "enlarged": "pictures are blurrier: sharpness -",
}
Pictures = dict[tuple[str, int], Image.Image]


def draw(prompt: int, seed: int) -> Image.Image:
    """A sky, a ground, and three things whose places and colours the seed decides, without hard edges."""
    rng = np.random.default_rng([prompt, seed])
    scale = 2  # drawn larger and made smaller, so that edges are soft
    image = Image.linear_gradient("L").resize((SIDE * scale, SIDE * scale)).convert("RGB")
    image = ImageChops.multiply(image, Image.new("RGB", image.size, tuple(rng.integers(120, 256, 3))))
    pen = ImageDraw.Draw(image)
    for _ in range(3):
        x, y, r = rng.integers(0, SIDE * scale, 2).tolist() + [int(rng.integers(20, 60))]
        pen.ellipse((x - r, y - r, x + r, y + r), fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


@cache
def drawn(first_seed: int = 0) -> Pictures:
    return {(f"prompt {p}", s): draw(p, s) for p in range(PROMPTS) for s in range(first_seed, first_seed + SEEDS)}


@cache
def baseline() -> ScoredSet:
    return score(drawn())


def score(pictures: Pictures, models: tuple[str, ...] = ("weights",)) -> ScoredSet:
    rows, thumbs = [], []
    for (prompt, seed), image in pictures.items():
        stats, thumb = pixel_stats(image)
        thumbs.append(thumb)
        metrics = {name: getattr(stats, name) for name in PIXEL_METRICS}
        rows.append(PictureRow(f"{prompt}-{seed}", prompt, seed, prompt, "", metrics, encode_thumb(thumb)))
    for row, repeats in zip(rows, find_duplicates(np.stack(thumbs)), strict=True):
        row.metrics["duplicate"] = float(repeats)
    return ScoredSet(RECIPE, tuple(average_by_unit(rows)), models, rows=tuple(rows))


def gate(change: Callable[[Image.Image], Image.Image], share: float = 1.0, models: tuple[str, ...] = ()) -> GateResult:
    """Against pictures of the same prompts and seeds; by default, nothing is known of the weights."""
    after = {key: change(x) if i % round(1 / share) == 0 else x for i, (key, x) in enumerate(drawn().items())}
    return run_gate(baseline(), score(after, models), MaxDrop.parse("5%"))


@pytest.mark.parametrize("damage", EVERY_PICTURE, ids=[d.name for d in EVERY_PICTURE])
def test_damage_to_every_picture_is_found_and_named(damage: Damage) -> None:
    for strength in damage.strengths[1:]:
        outcome = gate(lambda image, s=strength: damage.apply(image, s))
        assert outcome.verdict == "regression"
        assert outcome.sentences()[0].startswith(SAYS[damage.name]), outcome.sentences()


def test_black_frames_in_half_of_the_pictures_are_found() -> None:
    outcome = gate(REPLACED["black frames"], 0.5)
    assert outcome.verdict == "regression" and "more pictures show nothing: blank 0.00 to 0.50" in outcome.sentences()


def test_one_picture_again_and_again_is_found() -> None:
    outcome = gate(lambda image: draw(0, 0))
    assert "more pictures repeat another: duplicate 0.00 to 1.00" in outcome.sentences()


def test_fresh_seeds_pass() -> None:
    for first in range(2, 18, 2):
        assert run_gate(baseline(), score(drawn(first)), MaxDrop.parse("5%")).verdict != "regression"


def test_the_same_weights_must_draw_the_same_and_no_sharper() -> None:
    """Colours are swapped without a change of any mean: only the pairs show it, and only the same weights forbid it."""
    same = gate(REPLACED["colour swap"], models=("weights",))
    assert same.fell == ("changed",) and same.pairs == PROMPTS * SEEDS
    other = gate(REPLACED["colour swap"], models=("other weights",))
    assert other.verdict != "regression" and other.told[0].startswith(
        "pictures are not those of before: changed 0.00 to "
    )


def test_two_of_sixteen_pictures_that_changed_are_found_by_the_same_weights() -> None:
    assert gate(REPLACED["black frames"], 1 / 8, models=("weights",)).fell == ("changed",)
    assert gate(REPLACED["black frames"], 1 / 16, models=("weights",)).verdict != "regression"


def test_better_weights_pass_and_are_told() -> None:
    def sharpen(image: Image.Image) -> Image.Image:
        return image.filter(ImageFilter.UnsharpMask(2, 60, 0))

    other = gate(sharpen, models=("other weights",))
    assert other.verdict != "regression" and other.told[0].startswith("pictures are sharper: sharper +")
    assert gate(sharpen, models=("weights",)).fell == ("sharper",)


def test_pictures_of_a_pair_are_compared_and_others_by_their_prompt() -> None:
    """The baseline has two seeds, the run one of them and a new one: the old one decides, and did not change."""
    after = {key: image for key, image in drawn().items() if key[1] == 0}
    after |= {(f"prompt {p}", 7): REPLACED["black frames"](draw(p, 7)) for p in range(PROMPTS)}
    outcome = run_gate(baseline(), score(after), MaxDrop.parse("5%"))
    assert outcome.pairs == PROMPTS and outcome.fell == ()


def test_a_rate_has_its_exact_interval() -> None:
    assert rate_cell(0, 60) == f"0.00 (0.00 to {1 - 0.025 ** (1 / 60):.2f})"
    assert rate_cell(60, 60) == f"1.00 ({0.025 ** (1 / 60):.2f} to 1.00)"
    assert rate_cell(8, 10) == "0.80 (0.44 to 0.97)"  # Clopper and Pearson's table


def test_the_prompts_of_the_pool_are_spread_over_the_tasks() -> None:
    prompts = prompts_of_pool(32)
    assert len(set(prompts)) == 32 and sum(not p.isascii() for p in prompts) == 16


def test_blank_pictures_are_found_and_those_by_chance_fail_no_model() -> None:
    assert least_share(8) == pytest.approx(0.27, abs=0.01)  # three of eight prompts, four times in five
    assert all(worst_alarm(n)[0] < 0.05 for n in (5, 8, 13, 40))
