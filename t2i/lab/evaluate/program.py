"""Measures a bundle for its card: `python -m t2i.lab.evaluate --model small --sprites DIR --out report.json`.

The parts, of which `--only` takes some, separated by commas (docs/evaluation.md defines every number):

    suite       the suite of scenes, four pictures per prompt, by task and language
    renders     the same scenes rendered by the world: the ceiling of the judge's scores
    distances   FD and KID to held-out renders, beside those between two sets of renders
    retrieval   CLIP's text-to-image R@1 among 1,000 scenes
    embedding   held-out renders rebuilt by the base from their CLIP image embeddings
    prior       cosines of its embeddings; the suite with other inputs in its place
    sweeps      guidance and steps of the base and the prior, with contact sheets
    upsampler   PSNR, SSIM and colour shift against Lanczos on held-out renders

The report is JSON; `--markdown FILE` also writes it as tables. An existing report is extended: parts that are not
measured again stay.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import t2i
from t2i.errors import InputError, UsageError
from t2i.files import explain_os_error, write_bytes
from t2i.lab.evaluate.distances import distances
from t2i.lab.evaluate.embedding import embedding
from t2i.lab.evaluate.prior import prior
from t2i.lab.evaluate.retrieval import retrieval
from t2i.lab.evaluate.suite import renders, suite
from t2i.lab.evaluate.sweeps import sweeps
from t2i.lab.evaluate.tables import markdown
from t2i.lab.evaluate.upsampler import upsampler
from t2i.lab.evaluate.workbench import Workbench
from t2i.lab.program import positive, reports_errors
from t2i.schema import build
from t2i.world import WorldConfig
from t2i.world.sprites import LIBRARY

SCHEMA = 1
Part = Callable[[Workbench], dict[str, Any]]


PARTS: dict[str, Part] = {
    "suite": suite,
    "renders": renders,
    "distances": distances,
    "retrieval": retrieval,
    "embedding": embedding,
    "prior": prior,
    "sweeps": sweeps,
    "upsampler": upsampler,
}
WITHOUT_SPRITES = ("suite", "sweeps")
"""Parts that need no renders of the world."""
UNJUDGED = ("retrieval", "embedding", "upsampler")
"""Parts that need no judge, so any world can be measured."""


def world_config(recipe: str) -> WorldConfig:
    """The world of a recipe of this package, or of a TOML file. Raises UsageError."""
    path = Path(recipe) if recipe.endswith(".toml") else Path(t2i.__file__).parent / "train/recipes" / f"{recipe}.toml"
    try:
        config: WorldConfig = build(WorldConfig, tomllib.loads(path.read_text("utf-8")).get("world", {}), "world")
    except OSError as error:
        raise UsageError(f"there is no recipe {recipe!r}.", explain_os_error(error), "config") from error
    except ValueError as error:
        raise UsageError(f"the recipe {recipe!r} cannot be used: {error}", code="config") from error
    return config


def evaluate(bench: Workbench, parts: Sequence[str], report: dict[str, Any] | None = None) -> dict[str, Any]:
    """Measure the parts, in the order of PARTS, and add them to `report` or a new report."""
    report = {"schema": SCHEMA, **(report or {}), "model": bench.facts()}
    for name in [part for part in PARTS if part in parts]:
        began = time.monotonic()
        bench.part = name
        bench.say("begins")
        report[name] = {**PARTS[name](bench), "settings": bench.settings()}
        report[name]["seconds"] = round(time.monotonic() - began)
    return report


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m t2i.lab.evaluate", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="small", help="name or folder of the bundle (default small)")
    parser.add_argument("--sprites", type=Path, metavar="DIR", help="the sprite library; without it suite and sweeps")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the report; added to where it exists")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also write the whole report as tables")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="also write contact sheets there")
    parser.add_argument("--only", metavar="A,B", help=f"of {', '.join(PARTS)}")
    parser.add_argument("--recipe", default="first", help="whose world: a recipe or a .toml file (default first)")
    parser.add_argument("--n", type=positive, default=4, help="pictures of each prompt of the suite (default 4)")
    parser.add_argument(
        "--prompts", type=positive, metavar="N", help="only about N prompts of the suite, spread over tasks"
    )
    parser.add_argument("--few", type=positive, default=128, metavar="N", help="prompts of the sweeps and the ablation")
    parser.add_argument("--scenes", type=positive, default=1000, metavar="N", help="scenes of distances and retrieval")
    parser.add_argument("--seed", type=int, default=0, help="picture i of every prompt has seed S+i")
    parser.add_argument("--batch", type=positive, default=32, help="pictures drawn together")
    parser.add_argument("--device", default="cpu")
    return parser


def chosen(args: argparse.Namespace, drawn: bool) -> list[str]:
    """The parts asked for. drawn: the world's things are drawn by code, without sprites.

    Raises UsageError for unknown parts and for parts that need the sprite library.
    """
    free = WITHOUT_SPRITES if args.sprites is None and not drawn else tuple(PARTS)
    names: list[str] = args.only.split(",") if args.only else list(free)
    if unknown := [name for name in names if name not in PARTS]:
        raise UsageError(f"there is no part {unknown[0]!r}.", f"Parts are {', '.join(PARTS)}.")
    if needing := [name for name in names if name not in free]:
        raise UsageError(f"the part {needing[0]!r} needs the sprite library.", LIBRARY)
    if min(args.n, args.few, args.batch, args.prompts or 1) < 1 or args.scenes < 16:
        raise UsageError("the counts must be positive, and --scenes at least 16.")
    return names


def read_report(path: Path) -> dict[str, Any] | None:
    """The report at `path`, or None if there is none. Raises InputError for another file."""
    try:
        report = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"the report {path} cannot be read.", "Name another with --out.") from error
    if not isinstance(report, dict) or report.get("schema") != SCHEMA:
        raise InputError(f"{path} is no report of this version.", "Name another with --out.")
    return report


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    config = world_config(args.recipe)
    names = chosen(args, config.vocabulary == "shapes")
    report = read_report(args.out)
    bench = Workbench.open(
        args.model, config, args.sprites, device=args.device, n=args.n, seed=args.seed,
        prompts=args.prompts, few=args.few, scenes=args.scenes, batch=args.batch, sheets=args.sheets,
    )  # fmt: skip
    if not set(names) <= set(UNJUDGED):
        bench.judge  # noqa: B018 - refuse an unknown world before anything is drawn
    for name in names:  # written after each part, so that an interrupted run keeps what it measured
        report = evaluate(bench, [name], report)
        write_bytes(args.out, (json.dumps(report, indent=1, ensure_ascii=False) + "\n").encode())
    if args.markdown:
        write_bytes(args.markdown, markdown(report or {}).encode())
    for path in (args.out, args.markdown, *bench.written):
        if path:
            sys.stdout.write(f"{path}\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
