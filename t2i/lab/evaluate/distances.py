"""Distances of generated pictures to renders, in the judge's features."""

from __future__ import annotations

from typing import Any

import torch

from t2i.lab.evaluate.scenes import LANGS, full_caption
from t2i.lab.evaluate.workbench import LARGE, Workbench
from t2i.score.distances import frechet, kid, permutation_p

SUBSETS = 50  # of KID, each half of a set


def distances(bench: Workbench) -> dict[str, Any]:
    """Pictures of the captions of n held-out scenes, against renders of n other held-out scenes.

    "renders", the noise floor: renders of the first n scenes against the same reference.
    """
    n = bench.scenes
    ours, theirs = bench.held_out(n), bench.held_out(n, n)
    size = min(LARGE, bench.pipeline.manifest.sizes[-1])
    texts = [full_caption(scene, LANGS[i % 2]) for i, scene in enumerate(ours)]
    parts = [bench.judge.features(images) for images in bench.samples(texts, [bench.seed + i for i in range(n)])]
    made = torch.cat(parts)
    reference, floor = (bench.judge.features(bench.render(scenes, size)) for scenes in (theirs, ours))
    out: dict[str, Any] = {"scenes": n, "features": made.shape[1]}
    for name, features in (("samples", made), ("renders", floor)):
        kernel, deviation = kid(features, reference, subsets=SUBSETS, size=n // 2)
        out[name] = {
            "frechet": frechet(features, reference),
            "kernel": kernel,
            "kernel sd": deviation,
            "p": permutation_p(features, reference),
        }
    return out
