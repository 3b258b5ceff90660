"""Retrieval: which of many pictures does a caption belong to, by CLIP?"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from t2i.lab.evaluate.scenes import LANGS, distinct_scenes, full_caption
from t2i.lab.evaluate.workbench import Workbench, mean_row


def retrieval(bench: Workbench) -> dict[str, Any]:
    """The full caption of each scene against renders of all scenes. Contents differ, so only one picture is right."""
    scenes = distinct_scenes(bench, bench.scenes)
    z = bench.z_image(bench.render(scenes, max(bench.pipeline.clip.config.image_size, 64)))
    kinds = [(tuple(sorted({g.thing for g in s.groups})), s.place) for s in scenes]
    out: dict[str, Any] = {"scenes": len(scenes)}
    for lang in LANGS:
        texts = bench.z_text([full_caption(scene, lang) for scene in scenes])
        similarity = texts @ z.T
        out[lang] = {
            **recalls(similarity),
            **same_things(similarity, kinds),
            "R@1 image to text": recalls(similarity.T)["R@1"],
        }
    return out


def recalls(similarity: Tensor) -> dict[str, Any]:
    """R@1 and R@5 with intervals, and the median rank, of similarities (N, N) with the right answers on the diagonal.

    Ties count against the model: a wrong answer with the same similarity ranks before the right one.
    """
    right = similarity.diagonal()[:, None]
    rank = (similarity >= right).sum(1)  # 1 is best: the right answer counts itself
    return {"R@1": mean_row(rank <= 1), "R@5": mean_row(rank <= 5), "median rank": float(rank.float().quantile(0.5))}


def same_things(similarity: Tensor, kinds: list[Any]) -> dict[str, Any]:
    """The share of captions whose best picture has the right kinds of things in the right place."""
    best = similarity.argmax(1).tolist()
    return {"same things and place": mean_row([float(kinds[i] == kinds[k]) for i, k in enumerate(best)])}
