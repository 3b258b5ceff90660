"""The gate on the shipped model: it passes its own twin with fresh seeds, and fails it damaged in five ways.

    pytest -m slow tests/score/test_proof.py

Minutes on two idle cores: about 800 pictures of 64 pixels. Each repeat deals the four seeds of every prompt anew into
a baseline and a run of two each, so that many repeats need few pictures.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2i.cli.ui import UI
from t2i.score.baseline import ScoredSet
from t2i.score.draw_suite import SuiteOrder, draw_suite
from t2i.score.extractors import ClipExtractor, judge_info
from t2i.score.feature_cache import FeatureCache
from t2i.score.features import ScoringNetworks, extract_features
from t2i.score.gate import GateResult, MaxDrop, run_gate
from t2i.score.metrics import PictureScore, average_by_unit, metric_versions, score_pictures
from t2i.score.picture_files import PictureFile
from t2i.score.recipe import ScoreRecipe
from t2i.score.suite import SuitePrompt, find_suite
from t2i.score.task_scores import subsample
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import update_stage
from t2i.store.registry import resolve, resolve_judge
from t2i.world.judge import Judge

PROMPTS, SEEDS, EACH, REPEATS = 80, 4, 2, 200
DROP = MaxDrop.parse("10%")
pytestmark = pytest.mark.slow


class Lab:
    """The shipped model, a part of the shipped suite, and the shipped judge."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.model = folder, resolve("small")
        every = [p for p in find_suite("scenes") if p.lang == "en"]
        self.prompts: list[SuitePrompt] = subsample(every, PROMPTS)
        self.extractor = ClipExtractor(self.model)
        judge = resolve_judge()
        self.networks = ScoringNetworks(self.extractor, Judge.load(judge), judge_info(judge))
        self.whole = self.rows(self.draw("whole", SEEDS))

    def draw(self, name: str, n: int, model: Path | None = None, **words: str) -> list[PictureFile]:
        bundle = read_bundle(model or self.model)
        order = SuiteOrder(bundle, self.prompts, n, 0, {"size": "64", **words}, self.folder / name, 20, "cpu")
        return draw_suite(UI(quiet=True), order)

    def rows(self, pictures: Sequence[PictureFile]) -> list[PictureScore]:
        return score_pictures(
            extract_features(pictures, self.networks, FeatureCache(None))[0], self.extractor, self.prompts
        )

    def score(self, rows: Sequence[PictureScore]) -> ScoredSet:
        return ScoredSet(
            ScoreRecipe(self.extractor.info, self.networks.judge_info, metric_versions(rows)),
            tuple(average_by_unit([row.row() for row in rows])),
        )

    def deal(self, seed: int) -> tuple[ScoredSet, ScoredSet]:
        """Two scores of the same model, of different seeds for every prompt."""
        rng = np.random.default_rng(seed)
        groups: dict[str, list[PictureScore]] = {}
        for row in self.whole:
            groups.setdefault(row.unit, []).append(row)
        first, second = [], []
        for group in groups.values():
            hand = [group[i] for i in rng.permutation(len(group))]
            first += hand[:EACH]
            second += hand[EACH : 2 * EACH]
        return self.score(first), self.score(second)

    def against(self, rows: Sequence[PictureScore]) -> GateResult:
        """A damaged run of seeds 0 and 1 against a baseline of the seeds after them."""
        fresh = [row for row in self.whole if (row.picture.seed or 0) >= EACH]
        return run_gate(self.score(fresh), self.score(rows), DROP)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("proof"))


def show(name: str, outcome: GateResult) -> None:
    lead = outcome.checks[0]
    low, high = lead.result.change.low, lead.result.change.high
    print(f"{name}: {outcome.verdict}, {lead.column} {lead.before:.3f} -> {lead.after:.3f} [{low:.3f}, {high:.3f}]",
          f"mdd {lead.result.mdd:.3f}, fell: {', '.join(outcome.fell) or 'nothing'}")  # fmt: skip


def test_the_same_model_with_fresh_seeds_passes(lab: Lab) -> None:
    outcomes = [run_gate(*lab.deal(seed), DROP) for seed in range(REPEATS)]
    failed = sum(outcome.verdict == "regression" for outcome in outcomes)
    print(f"{failed} of {REPEATS} repeats failed; inconclusive {sum(o.verdict == 'inconclusive' for o in outcomes)}")
    assert failed <= 0.05 * REPEATS


def test_noised_weights_fail(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "noised"
    shutil.copytree(lab.model, folder)
    bundle = read_bundle(folder)
    (entry,) = bundle.manifest.of_kind("base")
    config, state = bundle.load_stage(entry.name)
    g = torch.Generator().manual_seed(0)
    noised = {k: w + 0.5 * w.std() * torch.randn(w.shape, generator=g) if w.ndim > 1 else w for k, w in state.items()}
    update_stage(folder, entry, (config, noised))
    outcome = lab.against(lab.rows(lab.draw("noised", EACH, folder)))
    show("weights noised", outcome)
    assert outcome.verdict == "regression"


def test_one_step_fails(lab: Lab) -> None:
    outcome = lab.against(lab.rows(lab.draw("one", EACH, steps="base=1,prior=1")))
    show("one step", outcome)
    assert outcome.verdict == "regression" or unseen(outcome)


def test_guidance_off_fails_where_it_can_be_seen(lab: Lab) -> None:
    outcome = lab.against(lab.rows(lab.draw("plain", EACH, guidance="base=1")))
    show("guidance off", outcome)
    assert outcome.verdict == "regression" or unseen(outcome)


def test_swapped_channels_fail(lab: Lab) -> None:
    pictures = []
    for row in (row for row in lab.whole if (row.picture.seed or 0) < EACH):
        path = lab.folder / f"swapped-{row.picture.path.name}"
        with Image.open(row.picture.path) as image:
            r, g, b = image.convert("RGB").split()
        Image.merge("RGB", (b, g, r)).save(path)
        pictures.append(replace(row.picture, path=path))
    outcome = lab.against(lab.rows(pictures))
    show("channels swapped", outcome)
    assert outcome.verdict == "regression"


def test_shuffled_prompts_fail(lab: Lab) -> None:
    rows = [row for row in lab.whole if (row.picture.seed or 0) < EACH]
    texts = [row.picture.prompt for row in rows]
    pictures = [replace(row.picture, prompt=text) for row, text in zip(rows, texts[34:] + texts[:34], strict=True)]
    outcome = lab.against(lab.rows(pictures))
    show("prompts shuffled", outcome)
    assert outcome.verdict == "regression"
    assert any(column.startswith("scene: ") for column in outcome.fell), "no task is named"


def unseen(outcome: GateResult) -> bool:
    """Whether the leading metric changed by less than the gate could have found beyond its margin."""
    result = outcome.checks[0].result
    return result.change.mean > -(result.margin + result.mdd)
