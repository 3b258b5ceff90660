"""The parts of an evaluation that compare sets: distances to renders, CLIP, the prior's cosines, the upsamplers."""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.errors import UsageError
from t2i.lab.bench import LARGE, RENDERS, Bench, mean_of
from t2i.media.images import lanczos
from t2i.sampling import SamplingConfig, given
from t2i.score.distances import frechet, kid, permutation_p
from t2i.score.pixel_metrics import psnr, ssim
from t2i.stages.prior import sample_prior
from t2i.stages.upsampler import sample_upsampler
from t2i.world import Relation, Scene, World
from t2i.world.captions import caption
from t2i.world.vocabulary import Lang

LANGS: tuple[Lang, ...] = ("en", "zh")
MIRROR = {"right": "left", "below": "above"}
SUBSETS = 50
SPRITE = 256  # pixels a side of the library's sprites


# Distances ------------------------------------------------------------------------------------------------------


def distances(bench: Bench) -> dict[str, Any]:
    """Samples of the captions of one set of held-out scenes against the renders of another set; and, as the floor,
    the renders of the first set against the same."""
    n = bench.scenes
    ours, theirs = bench.held_out(n), bench.held_out(n, n)
    size = min(LARGE, bench.pipeline.manifest.sizes[-1])
    texts = [caption_of(scene, LANGS[i % 2]) for i, scene in enumerate(ours)]
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


def caption_of(scene: Scene, lang: Lang, take: int = 0) -> str:
    """A caption that says everything in the scene graph."""
    rng = Random(f"{scene.seed}/{scene.index}/{take}/all")
    return caption(scene, rng, lang, "dense", say_style=0.0, say_place=1.0)


# CLIP -------------------------------------------------------------------------------------------------------------


def content(scene: Scene) -> tuple[Any, ...]:
    """What a dense caption says, the same for two scenes that one caption fits: "a left of b" is "b right of a"."""
    groups = list(scene.groups)
    relation = scene.relation
    if relation is None:
        groups.sort(key=str)
    elif relation.kind in MIRROR or (relation.kind == "next" and str(groups[1]) < str(groups[0])):
        groups[0], groups[1] = groups[1], groups[0]
        relation = Relation(MIRROR.get(relation.kind, relation.kind))
    return tuple(groups), scene.place, scene.shade, relation, scene.position


def distinct(bench: Bench, n: int) -> list[Scene]:
    """n held-out scenes of which no two have the same content."""
    found: dict[tuple[Any, ...], Scene] = {}
    index = 0
    while len(found) < n:
        scene = bench.world.scene(RENDERS + 1, index)
        found.setdefault(content(scene), scene)
        index += 1
    return list(found.values())


def retrieval(bench: Bench) -> dict[str, Any]:
    """Each scene's dense caption against all pictures. The contents differ, so that one picture alone is right."""
    scenes = distinct(bench, bench.scenes)
    z = bench.z_image(bench.render(scenes, max(bench.pipeline.clip.config.image_size, 64)))
    loose = [(tuple(sorted({g.thing for g in s.groups})), s.place) for s in scenes]
    out: dict[str, Any] = {"scenes": len(scenes)}
    for lang in LANGS:
        words = bench.z_text([caption_of(scene, lang) for scene in scenes])
        likeness = words @ z.T
        out[lang] = {
            **recalls(likeness),
            **same_things(likeness, loose),
            "R@1 image to text": recalls(likeness.T)["R@1"],
        }
    return out


def recalls(likeness: Tensor) -> dict[str, Any]:
    """likeness (N, N), the right answers on the diagonal -> R@1 and R@5 with intervals, and the median rank.

    A wrong answer that is exactly as like as the right one comes before it.
    """
    right = likeness.diagonal()[:, None]
    rank = (likeness >= right).sum(1)  # 1 is best: the right one is as like as itself
    return {"R@1": mean_of(rank <= 1), "R@5": mean_of(rank <= 5), "median rank": float(rank.float().quantile(0.5))}


def same_things(likeness: Tensor, loose: list[Any]) -> dict[str, Any]:
    best = likeness.argmax(1).tolist()
    return {"same things and place": mean_of([float(loose[i] == loose[k]) for i, k in enumerate(best)])}


# The prior -------------------------------------------------------------------------------------------------------


def prior_cosines(bench: Bench) -> dict[str, Any]:
    """How near the prior's embeddings lie to the picture that the caption was made of, to its text, and to others.

    twin: another render of the same content, the geometry drawn anew: as near as anything can be expected to come.
    unrelated: the picture of another scene, and its text.
    """
    pipeline = bench.pipeline
    entries = pipeline.manifest.of_kind("prior")
    if not entries:
        return {}
    entry, n = entries[0], min(bench.scenes, 512)
    scenes = distinct(bench, n)
    side = max(pipeline.clip.config.image_size, 64)
    image = bench.z_image(bench.render(scenes, side))
    twin = bench.z_image(bench.render([_twin(bench.world, scene) for scene in scenes], side))
    texts = [caption_of(scene, LANGS[i % 2]) for i, scene in enumerate(scenes)]
    words = bench.z_text(texts)
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
            "true image": mean_of(cosine(z, image)),
            "own text": mean_of(cosine(z, words)),
            "unrelated image": mean_of(cosine(z, image.roll(1, 0))),
            "unrelated text": mean_of(cosine(z, words.roll(1, 0))),
        }
        bench.say(f"cosines of {n} embeddings, best of {best_of}")
    out["text"] = {
        "true image": mean_of(cosine(words, image)),
        "unrelated image": mean_of(cosine(words, image.roll(1, 0))),
    }
    out["twin"] = {"true image": mean_of(cosine(twin, image))}
    return {"cosines": out}


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """(N, E), (N, E) -> (N,)"""
    return F.cosine_similarity(a, b, dim=-1)


def _twin(world: World, scene: Scene) -> Scene:
    return world.layout.compose(
        scene.groups, scene.place, shade=scene.shade, style=scene.style, relation=scene.relation,
        position=scene.position, seed=scene.seed + 7, index=scene.index,
    )  # fmt: skip


# Upsamplers ------------------------------------------------------------------------------------------------------


def upsampler(bench: Bench) -> dict[str, Any]:
    """Held-out renders, reduced by area and enlarged again: by the stage, and by Lanczos."""
    pipeline = bench.pipeline
    entries = pipeline.manifest.of_kind("upsampler")
    if not entries:
        raise UsageError(f"the model {pipeline.manifest.name!r} has no upsampler.", "Leave the part out.")
    low = pipeline.manifest.sizes[0]
    out: dict[str, Any] = {}
    for entry in entries:
        stage = pipeline.stages[entry.name]
        scale = int(stage.config.scale)
        high = low * scale
        n = min(bench.scenes, max(8, 64 * 256**2 // high**2))
        truth = _sharp(bench, n, high)
        made, plain = [], []
        step = max(1, bench.batch * 256**2 // high**2)
        small = F.interpolate(truth, scale_factor=1 / scale, mode="area")
        for start in range(0, n, step):
            part = small[start : start + step].to(stage.device)
            seeds = [bench.seed + start + i for i in range(len(part))]
            made.append(sample_upsampler(stage, part, seeds, stage.defaults).float().cpu())
            bench.say(f"{entry.name}: {min(start + step, n)} of {n} pictures")
        ours = torch.cat(made)
        plain = [lanczos(picture, high, high).clamp(-1, 1) for picture in small]
        theirs = torch.stack(plain)
        rows = {
            name: {"psnr": mean_of(psnr(x, truth)), "ssim": mean_of(ssim(x, truth)), **shift(x, truth)}
            for name, x in ((entry.name, ours), ("lanczos", theirs))
        }
        gain = {
            "psnr": mean_of(psnr(ours, truth) - psnr(theirs, truth)),
            "ssim": mean_of(ssim(ours, truth) - ssim(theirs, truth)),
        }
        out[entry.name] = {**rows, "gain": gain, "pictures": n, "from": low, "to": high}
        shown = [x[i] for i in range(min(4, n)) for x in (F.interpolate(small, size=(high, high)), theirs, ours, truth)]
        words = [[name] for _ in range(min(4, n)) for name in ("input", "Lanczos", entry.name, "render")]
        bench.sheet(f"upsampler-{high}", shown, words, 4, f"{pipeline.manifest.name} · {entry.name}")
        low = high
    return out


def shift(x: Tensor, truth: Tensor) -> dict[str, Any]:
    """The colour shift in 256ths of the range: how much lighter the set is on average in each channel (red, green,
    blue), and how far a picture's own mean lies from the truth's, the largest of its channels."""
    difference = (x.double() - truth.double()).mean((2, 3)) * 127.5  # (B, 3), of 1/255
    return {
        "shift": [round(v, 4) for v in difference.mean(0).tolist()],
        "shift of a picture": mean_of(difference.abs().amax(1)),
    }


def _sharp(bench: Bench, n: int, size: int) -> Tensor:
    """Renders in which no sprite is enlarged beyond its own pixels."""
    largest = SPRITE / size
    if largest >= 0.5:  # things of a usual size are drawn from larger sprites, or nearly so
        return bench.render(bench.held_out(n, 2 * bench.scenes), size)
    config = replace(
        bench.world.config, scale=(0.8 * largest, largest), groups=(1.0, 0.0, 0.0, 0.0), counts=(1.0, 0.0, 0.0, 0.0),
        size=0.0, position=0.0,
    )  # fmt: skip
    world = World(config, bench.sprites, resolution=SPRITE)
    scenes = [world.scene(RENDERS, i) for i in range(n)]
    return torch.cat([world.draw([scene], size)[0] for scene in scenes])
