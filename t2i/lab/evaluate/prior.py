"""The prior: how close its embeddings come to the pictures', and what they are worth to the base."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.lab.evaluate.scenes import LANGS, distinct_scenes, full_caption, twin_scene
from t2i.lab.evaluate.suite import SHEET_SIDE, task_sheet, task_table
from t2i.lab.evaluate.workbench import Workbench, interval_row, mean_row
from t2i.pipeline import Conditioning
from t2i.sampling import SampleRequest, SamplingConfig, given
from t2i.score.statistics import interval, share_interval
from t2i.score.task_scores import pass_share, task_scores
from t2i.stages.prior import sample_prior

Draw = Callable[[Sequence[str], Sequence[int]], Tensor]


def prior(bench: Workbench) -> dict[str, Any]:
    """`prior_cosines` and `prior_ablation`."""
    return {**prior_cosines(bench), **prior_ablation(bench)}


def prior_cosines(bench: Workbench) -> dict[str, Any]:
    """Cosines of the prior's embedding to the picture that the caption describes, to its text, and to others.

    unrelated: the picture and the text of another scene. twin: the cosine between two renders of the same content with
    different geometry, an upper bound for what can be expected. Empty if the bundle has no prior.
    """
    pipeline = bench.pipeline
    entries = pipeline.manifest.of_kind("prior")
    if not entries:
        return {}
    entry, n = entries[0], min(bench.scenes, 512)
    scenes = distinct_scenes(bench, n)
    side = max(pipeline.clip.config.image_size, 64)
    image = bench.z_image(bench.render(scenes, side))
    twin = bench.z_image(bench.render([twin_scene(bench.world, scene) for scene in scenes], side))
    texts = [full_caption(scene, LANGS[i % 2]) for i, scene in enumerate(scenes)]
    text_z = bench.z_text(texts)
    seeds = [bench.seed + i for i in range(n)]
    usual = given(entry.defaults.best_of, 1)
    out: dict[str, Any] = {"scenes": n}
    for best_of in sorted({1, usual}):
        parts = []
        for start in range(0, n, 64):
            text = pipeline.encode(texts[start : start + 64])[0]
            stage = pipeline.stages[entry.name]
            sampling = stage.defaults.override(SamplingConfig(best_of=best_of))
            parts.append(sample_prior(stage, text, seeds[start : start + 64], sampling).float().cpu())
        z = torch.cat(parts)
        out[f"prior, best of {best_of}"] = {
            "true image": mean_row(cosine(z, image)),
            "own text": mean_row(cosine(z, text_z)),
            "unrelated image": mean_row(cosine(z, image.roll(1, 0))),
            "unrelated text": mean_row(cosine(z, text_z.roll(1, 0))),
        }
        bench.say(f"cosines of {n} embeddings, best of {best_of}")
    out["text"] = {
        "true image": mean_row(cosine(text_z, image)),
        "unrelated image": mean_row(cosine(text_z, image.roll(1, 0))),
    }
    out["twin"] = {"true image": mean_row(cosine(twin, image))}
    return {"cosines": out}


def prior_ablation(bench: Workbench) -> dict[str, Any]:
    """The suite drawn with the prior's embedding, with a render's or the text's in its place, and with text tokens
    alone.

    The ablation of DALL-E 2 (Ramesh et al. 2022, 2204.06125, section 5.1, figure 8), with the same seeds and base
    throughout. The embedding of a render of the prompt is what a perfect prior could reach with this base.
    """
    pipeline, prompts = bench.pipeline, bench.suite(bench.few)
    base = pipeline.base[1].config
    ways: dict[str, Draw | None] = {}
    if pipeline.manifest.of_kind("prior"):
        ways["prior"] = None

    def drawn(with_text: bool, with_z: bool) -> Draw:
        def draw(texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
            text = pipeline.encode(texts)[0]
            z = F.normalize(text.pooled, dim=-1) if with_z else None
            return pipeline.draw(Conditioning(text if with_text else None, z), seeds, SampleRequest()).images

        return draw

    asked = {p.text: (i, p.expectation) for i, p in enumerate(prompts)}

    def from_renders(texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        scenes = [bench.scene_of(asked[text][1], asked[text][0], seed) for text, seed in zip(texts, seeds, strict=True)]
        z = bench.z_image(bench.render(scenes, 128))
        text = pipeline.encode(texts)[0]
        return pipeline.draw(Conditioning(text, z.to(text.pooled.device)), seeds, SampleRequest()).images

    if base.cond_dim:
        ways["embedding of a render in its place"] = from_renders
        ways["text embedding in its place"] = drawn(with_text=True, with_z=True)
    if base.text_dim:
        ways["text tokens alone"] = drawn(with_text=True, with_z=False)
    values, out = {}, {}
    for name, draw in ways.items():
        readings, kept = bench.look(prompts, min(2, bench.n), draw=draw, keep=SHEET_SIDE)
        values[name] = [pass_share(p, r) for p, r in zip(prompts, readings, strict=True)]
        out[name] = {
            "all prompts": interval_row(share_interval(values[name])),
            "tasks": task_table(task_scores(prompts, readings)),
        }
        if name != "prior" and "prior" in values:
            change = [a - b for a, b in zip(values["prior"], values[name], strict=True)]
            out[name]["gain of the prior"] = interval_row(interval(change))
        task_sheet(bench, f"prior-{name.replace(' ', '-')}", prompts, readings, kept)
    return {"ablation": out}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Row-wise: (N, E), (N, E) -> (N,)."""
    return F.cosine_similarity(a, b, dim=-1)
