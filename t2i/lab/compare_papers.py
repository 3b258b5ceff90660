"""The papers' comparisons on drawn shapes: short trainings of this package, tables and plots for docs/papers.md.

    python -m t2i.lab.compare_papers conditioning --work runs/papers
    python -m t2i.lab.compare_papers sizes thresholding augmentation steps --work runs/papers

Models are trained once and kept in --work. Results are written to docs/papers as JSON and as a plot (which needs
matplotlib). All pictures are of captions whose combinations were held out of training. Alignment is 100 times the
cosine of picture and caption in a contrastive CLIP that was trained for this alone. FD is the Fréchet distance of its
image embeddings to those of other held-out renders.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.lab.program import positive, reports_errors
from t2i.lab.short_trainings import SIDE, AlignmentJudge, Point, beside, crops, curve, draw, embed, notes, trained
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest, by_stage
from t2i.score.distances import frechet

OUT = Path("docs/papers")
GUIDANCE = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
STRONG = (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0)  # for thresholds, which matter where guidance is strong
LANGUAGE_MODELS = {"0.06M": (32, 1, 2), "0.2M": (64, 2, 2), "0.8M": (128, 3, 4)}  # width, layers, heads
UNETS = {"0.4M": (16, 32), "1.0M": (32, 64), "2.0M": (48, 96)}  # channels
NOISES = (0.0, 0.05, 0.1, 0.15, 0.2, 0.25)
EVALUATIONS_A_STEP = {"euler": 1, "ancestral": 1, "dpmpp_2m": 1, "unipc": 1, "heun": 2}  # evaluations a step
EVALUATIONS = (2, 4, 8, 16, 32)


# Comparisons --------------------------------------------------------------------------------------------------------


def conditioning(work: Path, judge: AlignmentJudge) -> dict[str, Any]:
    """A base conditioned on the image embedding (by a prior), on the text tokens, and on both; same CLIP and prior."""
    source = trained(work / "clip", "tiny", ["clip", "prior"])
    ways = {
        "image embedding": ["base.net.text_dim=0"],
        "text tokens": ["base.net.cond_dim=0", "base.net.z_tokens=0", "base.net.z_grid=0"],
        "both": [],
    }
    points, facts = [], {}
    for name, sets in ways.items():
        folder = beside(source, work / f"by-{name.replace(' ', '-')}")
        trained(folder, "tiny", ["base"], "base.steps=800", "base.warm_start=false", *sets)
        points += curve(folder, judge, name, GUIDANCE)
        facts[name] = notes(folder)
    return {"points": points, "trained": facts}


def training(work: Path, judge: AlignmentJudge) -> dict[str, Any]:
    """One setting of the training at a time, everything else as in the recipe `tiny`."""
    objective = "base.objective"
    bases = {
        "the recipe": [],
        "the recipe, another seed": [],
        "predict v, judge v": [f"{objective}.prediction=v", f"{objective}.judge=v"],
        "predict eps, judge eps": [f"{objective}.prediction=eps", f"{objective}.judge=eps"],
        "predict the flow's velocity, judge it": [f"{objective}.prediction=flow", f"{objective}.judge=flow"],
        "levels about 0": [f"{objective}.levels.mean=0"],
        "levels about 2": [f"{objective}.levels.mean=2"],
        "levels uniform": [f"{objective}.levels.law=uniform"],
        "AdamW": ["base.muon=false"],
    }
    clips = {
        "CLIP by softmax": ["clip.loss=softmax"],
        "CLIP by contrast alone": ["clip.denoise=0", "clip.contrast=1"],
    }
    points, facts = [], {}
    for name, sets in {**bases, **clips}.items():
        own = sets if name in clips else []
        source = trained(work / slug(name, "clip" if own else ""), "tiny", ["clip", "prior"], *own)
        folder = beside(source, work / slug(name, "base"))
        sets = sets if name in bases else []
        seed = 2 if name.endswith("seed") else 1
        trained(folder, "tiny", ["base"], "base.steps=300", "base.warm_start=false", *sets, seed=seed)
        points += curve(folder, judge, name, (1.5,))
        facts[name] = notes(folder)
    return {"points": points, "trained": facts}


def slug(name: str, what: str) -> str:
    """The name of a folder; without `what`, that of the shared CLIP."""
    return "-".join([what, *name.replace(",", "").replace("'", "").split()]) if what else "clip"


def sizes(work: Path, judge: AlignmentJudge) -> dict[str, Any]:
    """The size of the language model with the largest U-Net, and of the U-Net with the largest language model."""
    *others, largest = LANGUAGE_MODELS
    *smaller, widest = UNETS
    runs = [(m, widest, f"language model {m}") for m in others]
    runs += [(largest, u, f"U-Net {u}") for u in smaller] + [(largest, widest, "both at their largest")]
    points, facts = [], {}
    for model, unet, name in runs:
        width, layers, heads = LANGUAGE_MODELS[model]
        net = (f"text.net.width={width}", f"text.net.layers={layers}", f"text.net.heads={heads}")
        source = trained(work / f"text-{model}", "imagen-tiny", ["text"], *net)
        folder = beside(source, work / f"{model}-{unet}")
        sets = (*net, f"base.net.text_dim={width}", f"base.net.channels={list(UNETS[unet])}")
        trained(folder, "imagen-tiny", ["base"], "base.steps=400", *sets)
        points += curve(folder, judge, name, GUIDANCE)
        facts[name] = notes(folder)
    return {"points": points, "trained": facts}


def thresholding(work: Path, judge: AlignmentJudge) -> dict[str, Any]:
    """No, static and dynamic thresholding of the x0 estimate, at strong guidance."""
    folder = trained(work / "imagen", "imagen-tiny", ["text", "base", "upsampler256"])
    ways: dict[str, Any] = {"none": "none", "static": "static", "dynamic, 99.5 %": (0.995, 10.0)}
    points = [p for name, way in ways.items() for p in curve(folder, judge, name, STRONG, threshold=way)]
    return {"points": points, "trained": {"imagen-tiny": notes(folder)}}


def augmentation(work: Path, judge: AlignmentJudge) -> dict[str, Any]:
    """Noise level of the upsampler's input when sampling, at several guidances of the base."""
    folder = trained(work / "imagen", "imagen-tiny", ["text", "base", "upsampler256"])
    pipeline, points = Pipeline.load(folder), []
    for g in (1.0, 3.0, 6.0):
        for level in NOISES:
            stages = by_stage(guidance={"base": g}, noise={"upsampler256": level})
            request = SampleRequest(size=128, stages=stages)
            images = draw(pipeline, judge, request)
            near = frechet(embed(judge.clip, crops(images)), judge.crops)
            point = {"curve": f"guidance {g:g}", "noise": level, **judge.whole(images)}
            points.append(point | {"FD of crops": round(1000 * near, 2)})
            sys.stderr.write(f"{points[-1]}\n")
    return {"points": points, "trained": {"imagen-tiny": notes(folder)}}


def steps(work: Path, judge: AlignmentJudge) -> dict[str, Any]:
    """Samplers by network evaluations, not steps: Heun's takes two evaluations per step."""
    folder = trained(work / "imagen", "imagen-tiny", ["text", "base", "upsampler256"])
    pipeline, points = Pipeline.load(folder), []
    for sampler, cost in EVALUATIONS_A_STEP.items():
        for evaluations in EVALUATIONS:
            stages = by_stage(sampler={"base": sampler}, steps={"base": evaluations // cost})
            request = SampleRequest(size=SIDE, stages=stages)
            point = {"curve": sampler, "evaluations": evaluations, **judge.whole(draw(pipeline, judge, request))}
            points.append(point)
            sys.stderr.write(f"{point}\n")
    return {"points": points, "trained": {"imagen-tiny": notes(folder)}}


@dataclass(frozen=True)
class Comparison:
    """x, y: the axes of the plot. label: written at each point."""

    run: Callable[[Path, AlignmentJudge], dict[str, Any]]
    x: str
    y: str
    label: str | None = None


COMPARISONS = {
    "conditioning": Comparison(conditioning, "alignment", "FD", "guidance"),
    "training": Comparison(training, "alignment", "FD"),
    "sizes": Comparison(sizes, "alignment", "FD", "guidance"),
    "thresholding": Comparison(thresholding, "guidance", "FD"),
    "augmentation": Comparison(augmentation, "noise", "FD of crops"),
    "steps": Comparison(steps, "evaluations", "FD"),
}


# Writing ------------------------------------------------------------------------------------------------------------


def value(point: Point, key: str) -> float:
    found = point[key]
    return float(found["mean"] if isinstance(found, dict) else found)


def plot(name: str, comparison: Comparison, points: list[Point], target: Path) -> None:
    """One line per curve."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.2), dpi=110)
    for curve_name in dict.fromkeys(p["curve"] for p in points):
        own = [p for p in points if p["curve"] == curve_name]
        xs, ys = ([value(p, key) for p in own] for key in (comparison.x, comparison.y))
        axes.plot(xs, ys, marker="o", markersize=4, linewidth=1.4, label=curve_name)
        for p, x, y in zip(own, xs, ys, strict=True):
            if comparison.label:
                text = f"{p[comparison.label]:g}"
                axes.annotate(text, (x, y), xytext=(4, 3), textcoords="offset points", fontsize=7, color="0.35")
    axes.set_xlabel(comparison.x)
    axes.set_ylabel(f"{comparison.y} × 1000")
    if name == "steps":
        axes.set_xscale("log", base=2)
    if name in ("steps", "thresholding"):
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("{x:g}")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(target, metadata={"Software": None})
    pyplot.close(figure)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="COMPARISON", help=f"of {', '.join(COMPARISONS)}; default all")
    parser.add_argument("--work", type=Path, required=True, metavar="DIR", help="where the trained models lie")
    parser.add_argument("--out", type=Path, default=OUT, metavar="DIR", help="for results and plots")
    parser.add_argument("--n", type=positive, default=1000, help="captions, of which each gets one picture")
    parser.add_argument("--plot", action="store_true", help="draw the plots again, of results that are there")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    args = parser.parse_args(argv)
    names = args.names or list(COMPARISONS)
    if unknown := [name for name in names if name not in COMPARISONS]:
        parser.error(f"there is no comparison {unknown[0]!r}; there are {', '.join(COMPARISONS)}")
    judge = None if args.plot else AlignmentJudge.build(args.work, args.n)
    for name in names:
        comparison, path = COMPARISONS[name], args.out / f"{name}.json"
        if judge is not None:
            found = comparison.run(args.work, judge) | {"captions": args.n, "renders": judge.score(judge.own)}
            path.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        plot(name, comparison, json.loads(path.read_text("utf-8"))["points"], path.with_suffix(".png"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
