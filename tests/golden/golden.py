"""Does this tree do what an older one did? About thirty cases of real commands, run with both, compared to the bit.

    python tests/golden/golden.py --cache DIR                   # this tree against commit e4d4dca
    python tests/golden/golden.py --cache DIR --old OLD_TREE    # against a checkout of your own
    python tests/golden/golden.py --cache DIR --only 'train*'   # some cases; more than one pattern may be given
    python tests/golden/golden.py --list

Each case is a few commands in an empty folder of its own, with its own T2I_HOME, one thread, float32. The same is
done with `--new` (by default the tree this file stands in) and compared:

- exit codes; what stdout says, as records where it is JSON; warnings, errors and hints on stderr
- the names of all files written, and the pixels of every picture and of every frame, which must be equal
- what the pictures say about themselves, manifests, baselines, logs, cards: equal but for VOLATILE and the like
- weights, checkpoints and statistics bit by bit

A line a case: "same", or "DIFFERENT" and below it what differs. It exits 0 only if all are the same, 1 if any is not, 2
if it was asked for something that makes no sense. What may differ on purpose stands in ALLOWED, and nowhere else.

Commands run as `python -m t2i` does, each in a process forked from one that has loaded torch but nothing of t2i; with
`--spawn`, in an interpreter of their own. The old results are kept in `--cache`, by case, inputs, machine and versions;
a second run does the new side only. Nothing is run with --debug: its fields may be renamed. pytest does not collect
this file. It needs the interpreter that has the project's dependencies, and neither tree installed.
"""

from __future__ import annotations

import argparse
import contextlib
import fnmatch
import hashlib
import html
import importlib
import io
import json
import math
import os
import platform
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageSequence

BASE = "e4d4dca"  # the commit whose behaviour is kept
FORM = 1  # of the snapshots: another number makes every cached one again
TIMEOUT = 1200  # seconds a command may take
SHOWN = 12  # differences of a case that are told
PICTURES = (".png", ".jpg", ".jpeg", ".webp", ".gif")

# What is left out of the comparison ------------------------------------------------------------------------------

VOLATILE = frozenset({"seconds", "date", "tool", "versions"})  # keys of any record
VOLATILE |= {"README.md"}  # of a bundle's files, a hash: it tells the hours of a training
OF_EVENTS = frozenset({"rate", "left"})  # keys of a training's records: how fast, how long still
OF_TIME = frozenset({"networks", "share"})  # keys of a score's "time"
NO_FILES = ("*tfevents*",)  # their names hold the time and the machine
VOLATILE_TEXT = (
    (re.compile(r"\bt2i \d+\.\d+\.\d+\S*"), "t2i <version>"),
    (re.compile(r"(AISystemVersionUsed>)[^<]*"), r"\1<version>"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?(\+\d\d:\d\d|Z)?"), "<date>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "<date>"),
    (re.compile(r"\btime=\"[\d.]+\""), 'time="<time>"'),
    (re.compile(r"\b\d+(\.\d+)? (s|seconds|hours)\b"), "<time>"),
    (re.compile(r"\| \d+\.\d\d \|$", re.M), "| <hours> |"),  # the last column of a card's table
    (re.compile(r"\b\d+% of it in the networks"), "<share> in the networks"),
)


@dataclass(frozen=True)
class Allowed:
    """A difference that is meant. case: a pattern of names; path: what the whole place in the comparison must match;
    old, new: the values, where they are given."""

    case: str
    path: str
    why: str
    old: Any = ...
    new: Any = ...
    near: float = 0.0  # numbers that are equal to this relative difference
    vary: bool = False  # only where the new side used `t2i vary`

    def covers(self, case: Case, vary: bool, found: Difference) -> bool:
        """Whether this difference is the one that is meant."""
        return (
            fnmatch.fnmatchcase(case.name, self.case)
            and re.fullmatch(self.path, found.path) is not None
            and self.old in (..., found.old)
            and self.new in (..., found.new)
            and (not self.near or is_near(found.old, found.new, self.near))
            and (vary or not self.vary)
        )


def is_near(old: Any, new: Any, tolerance: float) -> bool:
    """Whether both are numbers that differ by rounding only."""
    return type(old) is type(new) is float and math.isclose(old, new, rel_tol=tolerance, abs_tol=1e-15)


ABSENT = "<absent>"
ALLOWED = (
    Allowed("score*", r".*\.files(\..*)?", "score's records say which weights drew a picture", old=ABSENT),
    Allowed("score*", r".*", "Student's t is scipy's, equal but for its last digits", near=1e-12),
    Allowed("score*", r"files\.[^.]*\.(xml|html).*", "written by junitparser and jinja2: other spaces and quotes"),
    Allowed("*", r".*\.command", "the command has a name of its own", old="sample", new="vary", vary=True),
)

# The cases -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Step:
    """A command. new: how the new side spells it, once it knows `t2i vary`; code: how it should end; remove: patterns
    of files that go before."""

    old: str
    new: str = ""
    code: int = 0
    remove: tuple[str, ...] = ()


@dataclass(frozen=True)
class Case:
    """Commands that share a folder, and what lies in it before."""

    name: str
    steps: tuple[Step, ...]
    inputs: tuple[str, ...] = ()


def scene(width: int, height: int, seed: int, ears: bool = True) -> Image.Image:
    """A head with two eyes before a sky over snow, and a little noise, which the model takes for some animal."""
    rows = np.linspace(0, 1, height)[:, None, None]
    sky, snow = np.array([120.0, 170.0, 225.0]), np.array([240.0, 244.0, 250.0])
    pixels = np.where(rows < 0.6, sky + 60 * rows, snow - 20 * rows) + np.zeros((height, width, 3))
    side = min(width, height)
    image = Image.fromarray(pixels.round().clip(0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    x, y, r = width // 2, int(height * 0.55), side // 4
    fur = (228, 140, 50) if ears else (130, 90, 60)
    if ears:
        for sign in (-1, 1):
            draw.polygon([(x + sign * r, y - r // 4), (x + sign * r, y - 3 * r // 2), (x, y - r // 2)], fill=fur)
    else:
        draw.ellipse((x - r - r // 2, y - r // 2, x - r // 2, y + r), fill=(90, 60, 40))
        draw.ellipse((x + r // 2, y - r // 2, x + r + r // 2, y + r), fill=(90, 60, 40))
    draw.ellipse((x - r, y - r, x + r, y + r), fill=fur)
    for sign in (-1, 1):
        ex, ey, e = x + sign * r // 2, y - r // 4, max(1, r // 6)
        draw.ellipse((ex - e, ey - e, ex + e, ey + e), fill=(20, 20, 20))
    noise = np.random.default_rng(seed).normal(0, 2, (height, width, 3))
    return Image.fromarray((np.asarray(image) + noise).round().clip(0, 255).astype(np.uint8))


def encoded(image: Image.Image, kind: str = "PNG") -> bytes:
    """The picture as a file."""
    data = io.BytesIO()
    image.save(data, kind)
    return data.getvalue()


def spot(width: int, height: int) -> Image.Image:
    """A mask: white in the middle."""
    mask = Image.new("L", (width, height), 0)
    ImageDraw.Draw(mask).ellipse((width // 4, height // 4, 3 * width // 4, 3 * height // 4), fill=255)
    return mask


def hollow(width: int, height: int) -> Image.Image:
    """A picture with a transparent part."""
    image = scene(width, height, 5)
    hole = Image.eval(spot(width, height), lambda value: 255 - value)
    image.putalpha(hole)
    return image


def lines(*rows: Any) -> bytes:
    """Rows of text, or JSON in lines."""
    return "".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows).encode()


ANIMALS = ("a cat in the snow", "a dog on the beach", "a red apple", "two blue cars", "一只猫在雪地里", "a bear")
SLUGS = [prompt.replace(" ", "-") for prompt in ANIMALS]
INPUTS: dict[str, Callable[[], bytes]] = {
    "cat.png": lambda: encoded(scene(64, 64, 1)),
    "dog.png": lambda: encoded(scene(64, 64, 2, ears=False)),
    "wide.png": lambda: encoded(scene(56, 40, 3)),
    "photo.png": lambda: encoded(scene(112, 96, 4)),
    "photo.jpg": lambda: encoded(scene(112, 96, 4), "JPEG"),
    "hollow.png": lambda: encoded(hollow(96, 96)),
    "mask.png": lambda: encoded(spot(112, 96)),
    "small.png": lambda: encoded(spot(20, 20)),
    "broken.png": lambda: encoded(scene(64, 64, 1))[:600],
    "prompts.txt": lambda: lines(
        *("# winter", "a {cat|dog} in the snow", "", "一只猫在雪地里玩耍"),
        *("a red apple", "a red apple", "a quokka in the fog"),
    ),
    "animals.txt": lambda: lines(*ANIMALS),
    "jobs.jsonl": lambda: lines(
        {"prompt": "a cat in the snow", "seed": 7, "guidance": 1, "name": "cat-g1"},
        {"prompt": "a dog", "n": 2, "seed": "7..8", "steps": {"base": 4}},
        {"prompt": "a cat in the snow", "seed": [7, 9], "guidance": {"base": 2}, "name": "cat-g2"},
        {"prompt": "一栋房子", "sampler": "euler", "steps": "base=5,prior=4", "negative": "snow"},
        {"prompt": "a boat", "threshold": [0.995, 1.5], "seed": 3},
        {"prompt": "a dog", "n": 2, "steps": {"base": 4}},
    ),
    "turned.jsonl": lambda: lines(
        *(
            {"file_name": f"{slug}-{seed}.png", "prompt": ANIMALS[i - 1]}
            for i, slug in enumerate(SLUGS)
            for seed in (1, 2)
        )
    ),
    "wrong.jsonl": lambda: lines({"prompt": "a cat", "sede": 7}),
    "shown.jsonl": lambda: lines(
        {"file_name": "cat.png", "prompt": "a cat in the snow"}, {"file_name": "dog.png", "prompt": "a dog in the snow"}
    ),
    "bundle/bundle.json": lambda: b'{"format": 1, "family": "unclip"}\n',
    "text.txt": lambda: b"no picture\n",
}

TINY = " ".join(
    ["--set tokenizer.captions=300 --set prior.pool=128 --set prior.batch=8 --set clip.batch=8 --set base.batch=8"]
    + ["--set upsampler256.batch=4 --set sharp256.batch=4"]
    + [f"--set {stage}.precision=fp32" for stage in ("clip", "prior", "base", "upsampler256", "sharp256")]
)
IMAGEN = (
    "train --recipe imagen-tiny --out m --json --set tokenizer.captions=300 --set text.batch=8 --set base.batch=8 "
    "--set upsampler256.batch=4 "
    + " ".join(f"--set {stage}.precision=fp32" for stage in ("text", "base", "upsampler256"))
)


def tiny(clip: int, prior: int, base: int, up: int) -> str:
    """A training of all stages of the recipe tiny, of so many steps each."""
    steps = {"clip": clip, "prior": prior, "base": base, "upsampler256": up}
    return f"train --recipe tiny --out m --json {TINY} " + " ".join(f"--set {k}.steps={v}" for k, v in steps.items())


def case(name: str, *steps: Step | str, inputs: str = "") -> Case:
    """A case; a plain string is a step that should exit 0."""
    return Case(name, tuple(s if isinstance(s, Step) else Step(s) for s in steps), tuple(inputs.split()))


def error(name: str, code: int, *commands: str, inputs: str = "") -> Case:
    """A case of commands that all fail alike."""
    return case(name, *(Step(command, code=code) for command in commands), inputs=inputs)


CASES = (
    case(
        "sample-english",
        'sample "a cat in the snow" --seed 7 -n 2 --size 64 --batch 1 --json',
        "sample --replay out/a-cat-in-the-snow-8.png --json",
        "info out/a-cat-in-the-snow-7.png --json",
        "info out/a-cat-in-the-snow-8.png",
    ),
    case("sample-chinese", 'sample 一只猫在雪地里玩耍 --seed 7 -n 3 --size 64 -o "{slug}/{index:03}-{n}.png" --json'),
    case("sample-256-stages", 'sample "a red house" --seed 3 --size 256 --keep-stages -o house.webp --json'),
    case("sample-imagen", 'sample "a dog on the beach" -m imagen-small --size 64 -n 2 --seed 5 --json'),
    case("sample-imagen-256", "sample 雪地里的红色汽车 -m imagen-small --size 256 --steps base=6,up=1 --seed 5 --json"),
    case(
        "sample-dials",
        'sample "a green house" --seed 4 --size 64 --negative "snow" --sampler heun --steps base=4,prior=5 '
        "--guidance base=2,prior=1.5 --threshold 0.99,1.2 -o a.jpg --json",
        'sample "a zyzzyva" --seed 4 --size 64 --no-prompt-metadata --json',
        "info a.jpg --json",
    ),
    case("sample-sr-noise", 'sample "a boat" --seed 4 --size 256 --sr-noise 0.1 --steps base=4 --guidance 1.5 --json'),
    case(
        "batch-text",
        "sample -f prompts.txt -o winter --size 64 -q",
        "sample -f prompts.txt -o winter --size 64 --json",  # all is there
        Step("sample -f prompts.txt -o winter --size 64 --json", remove=("winter/a-red-*.png",)),
        Step("sample -f prompts.txt -o winter --size 64 --overwrite --batch 2", remove=("winter/manifest.jsonl",)),
        inputs="prompts.txt",
    ),
    case("batch-jobs", "sample -f jobs.jsonl -o jobs --size 64 --json", inputs="jobs.jsonl"),
    case("choices-grid", 'sample "a {red|blue} {apple|cat}" --seed 1,2 --size 64 --grid --json'),
    case("sweep", 'sample "a cat" --seed 1..2 --size 64 --sweep guidance=1,3 --sweep steps.base=2,4 -o sweep --json'),
    case("rerank", 'sample "a bear wearing a crown" --rerank 2 --seed 6 --size 64 --json'),
    case(
        "prior-options",
        'sample "a tree" --prior-best-of 3 --seed 6 --size 64 --json',
        'sample "a tree" --prior none --seed 6 --size 64 --json',
        "sample --replay out/a-tree-6-2.png",
    ),
    case("init", 'sample "a house" --init photo.jpg --strength 0.7 --seed 2 --size 64 --json', inputs="photo.jpg"),
    case(
        "like",
        Step("sample --like cat.png -n 2 --seed 3 --size 64 --json", "vary cat.png -n 2 --seed 3 --size 64 --json"),
        Step(
            'sample "a dog" --like cat.png --strength 0.3 --seed 3 --size 64 --json',
            'vary cat.png "a dog" --strength 0.3 --seed 3 --size 64 --json',
        ),
        inputs="cat.png",
    ),
    case(
        "blend",
        Step(
            "sample --blend cat.png dog.png --frames 3 --animate webp --seed 3 --size 64 --json",
            "vary cat.png --to dog.png --frames 3 --animate webp --seed 3 --size 64 --json",
        ),
        inputs="cat.png dog.png",
    ),
    case(
        "text-diff",
        Step(
            'sample --text-diff cat.png "a cat" "a dog" --theta 0.25..0.5 --frames 2 --seed 3 --size 64 --json',
            'vary cat.png --from-text "a cat" --to-text "a dog" --theta 0.25..0.5 --frames 2 --seed 3 --size 64 --json',
        ),
        inputs="cat.png",
    ),
    case(
        "inpaint-box",
        'inpaint photo.png "a house" --box 30,30,40,40 --box 60,50,30,30 -n 2 --seed 5 --steps base=4 --json',
        "inpaint photo.png --box 30,30,40,40 --seed 5 --steps base=4 --json",
        'inpaint hollow.png "a dog" --seed 5 --steps base=4 -m imagen-small --json',
        inputs="photo.png hollow.png",
    ),
    case(
        "inpaint-mask",
        'inpaint photo.jpg "a dog" --mask-text "the cat" --show-mask --seed 5 --steps base=4 --json',
        'inpaint photo.jpg "a dog" --mask mask.png --mask-mode keep --feather 3 --seed 5 --steps base=4 -o b.png',
        inputs="photo.jpg mask.png",
    ),
    case(
        "outpaint",
        'inpaint wide.png "the snow" --outpaint left=50%,right=16 --seed 5 --steps base=4 --json',
        inputs="wide.png",
    ),
    case(
        "upscale",
        "upscale cat.png --to 256 --json",
        'upscale wide.png --scale 2.5 --tile 64 --prompt "a cat" -o big --json',
        Step("upscale cat.png broken.png wide.png --to 96 --trust -o more --json", code=3),
        inputs="cat.png wide.png broken.png",
    ),
    case("upscale-sharp", "upscale wide.png --scale 4 --sharp --seed 2", inputs="wide.png"),
    case("upscale-imagen", 'upscale cat.png --to 256 -m imagen-small --prompt "a cat" --json', inputs="cat.png"),
    case(
        "score-suite",
        "score --suite scenes --limit 8 -n 1 --size 64 --json --save-baseline base.json",
        Step(
            "score --suite scenes --limit 8 -n 1 --size 64 --json --baseline base.json --sheet s.png",
            remove=("out/score/*/a-b*.png",),
        ),
    ),
    case(
        "score-folder",
        "sample -f animals.txt -o good --size 64 --seed 1..2 -q",
        "sample -f animals.txt -o bad --size 64 --seed 1..2 --guidance 0 --steps 1 -q",
        "score good --json --save-baseline base.json --save-stats good.npz --junit a.xml --html a.html",
        "score bad --json --baseline base.json --max-drop 2% --junit b.xml --html b.html --before good",
        Step("score good --json --baseline base.json --prompts turned.jsonl --html c.html", code=1),
        "score bad --baseline base.json --against good --before good --update-baseline",
        Step("score bad --against good.npz --before good --tier close --json --extractor judge", code=3),
        inputs="animals.txt turned.jsonl",
    ),
    case(
        "score-pictures",
        'score cat.png dog.png --prompts shown.jsonl --labels "cat,dog,bear" --json',
        Step("score cat.png --json --metrics clip", code=4),
        inputs="cat.png dog.png shown.jsonl",
    ),
    error(
        "errors-usage",
        2,
        "sample --json",
        'sample "" --json',
        'sample "a cat" --size 100 --json',
        'sample "a cat" --guidence 2 --json',
        'sample "a cat" --steps bse=4',
        "sample -f wrong.jsonl --json",
        "inpaint photo.png cat --box 1,1 --json",
        "inpaint photo.png cat --mask small.png",
        "upscale photo.png --json",
        "train --recipe tiny --set base.nokey=1 --json",
        "train nostage --json",
        "score --json",
        inputs="wrong.jsonl photo.png small.png",
    ),
    error(
        "errors-input",
        3,
        "inpaint nosuch.png cat --box 1,1,5,5 --json",
        "upscale text.txt --to 128 --json",
        "info broken.png --json",
        "score text.txt",
        "models verify bundle --json",
        "sample cat -m bundle --json",
        "sample -f nosuch.txt --json",
        "train --recipe tiny --data nosuch --out m --json",
        "sample --replay cat.png --json",
        inputs="text.txt broken.png bundle/bundle.json cat.png",
    ),
    error(
        "errors-missing",
        4,
        'sample "a cat" --model smal --json',
        "models show nosuch --json",
        "score cat.png --extractor open_clip:ViT-B-32 --json",
        'sample "a cat" --device cuda --json',
        inputs="cat.png",
    ),
    case(
        "models",
        "models list --json",
        "models list",
        "models verify --json",
        "models show small --json",
        "models show imagen-small",
        "train --recipe tiny --dry-run --json",
    ),
    case(
        "train-tiny",
        tiny(20, 12, 12, 12),
        tiny(20, 20, 20, 20) + " --resume",
        Step(f"train sharp256 --recipe tiny --out m --json {TINY} --set sharp256.steps=4"),
        Step(tiny(20, 20, 20, 20), code=3),
        'sample "a red circle" -m m --seed 1 --json',
        "models verify m --json",
    ),
    case(
        "train-resume-clip",
        f"train clip --recipe tiny --out m --json {TINY} --set clip.steps=12 --set clip.save_every=6",
        f"train clip --recipe tiny --out m --json {TINY} --set clip.steps=20 --resume",
        Step(f"train clip --recipe tiny --out other --json {TINY} --set clip.steps=4 --start m --seed 5", code=3),
    ),
    case(
        "train-start",
        IMAGEN.replace("train", "train text", 1) + " --set text.steps=4",
        IMAGEN.replace("train", "train text", 1).replace("--out m", "--out other") + " --steps 4 --start m --seed 5",
    ),
    case(
        "train-imagen",
        f"{IMAGEN} --set text.steps=10 --set base.steps=6 --set upsampler256.steps=4",
        f"{IMAGEN} --set text.steps=10 --set base.steps=10 --set upsampler256.steps=8 --resume",
        "sample 一个红色的圆 -m m --seed 1 --json",
    ),
)

# Running one side ------------------------------------------------------------------------------------------------

PINNED = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PYTHONUTF8": "1"}
AHEAD = ("torch", "torch.nn.functional", "safetensors.torch", "tokenizers", "typer", "typer.main", "rich.console")


@dataclass(frozen=True)
class Done:
    """How a command ended, and what it said."""

    code: int
    out: str
    err: str


def be_t2i(tree: Path, work: Path, env: dict[str, str], words: list[str], out: Path, err: Path) -> None:
    """In a process forked off for it: what `python -m t2i` does, without the seconds that torch takes to load. Of t2i
    itself nothing has been loaded before."""
    for number, path in ((1, out), (2, err)):
        with open(path, "wb") as file:
            os.dup2(file.fileno(), number)
    os.chdir(work)
    os.environ.clear()
    os.environ.update(env)
    sys.path[:1] = [str(work), str(tree)]
    sys.argv = ["-m", *words]
    runpy.run_module("t2i", run_name="__main__", alter_sys=True)


@dataclass
class Place:
    """A tree, and the folders of one case."""

    tree: Path
    folder: Path
    vary: bool = False
    fork: bool = True

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def run(self, words: list[str]) -> Done:
        """`python -m t2i`, with this tree's code and nobody at its standard input."""
        drop = ("GITHUB_STEP_SUMMARY", "XDG_CACHE_HOME", "COLUMNS", "FORCE_COLOR")
        env = {key: value for key, value in os.environ.items() if key not in drop and not key.startswith("T2I_")}
        env |= {**PINNED, "HF_HUB_OFFLINE": "1", "NO_COLOR": "1", "COLUMNS": "100"}
        env |= {"PYTHONPATH": str(self.tree), "T2I_HOME": str(self.home)}
        out, err = self.folder / "stdout", self.folder / "stderr"
        if self.fork:
            process = get_context("fork").Process(target=be_t2i, args=(self.tree, self.work, env, words, out, err))
            process.start()
            process.join(TIMEOUT)
            if process.is_alive():
                process.kill()
                process.join()
            code = process.exitcode or 0
        else:
            with open(out, "wb") as stdout, open(err, "wb") as stderr:
                command, streams = [sys.executable, "-m", "t2i", *words], (subprocess.DEVNULL, stdout, stderr)
                code = subprocess.run(command, -1, None, *streams, cwd=self.work, env=env, timeout=TIMEOUT).returncode
        said, told = (path.read_bytes().decode("utf-8", "replace") for path in (out, err))
        return Done(code, said, told)

    def plain(self, text: str) -> str:
        """``text`` without what differs from place to place and from time to time."""
        for path, name in ((self.work, "<work>"), (self.home, "<home>"), (self.tree, "<tree>")):
            for spelling in {str(path), str(path.resolve())}:
                text = text.replace(spelling, name)
        for pattern, name in VOLATILE_TEXT:
            text = pattern.sub(name, text)
        return text

    def clean(self, value: Any) -> Any:
        """A JSON value without what is volatile."""
        if isinstance(value, dict):
            gone = VOLATILE | (OF_EVENTS if "event" in value or {"loss", "step"} <= value.keys() else frozenset())
            out = {self.plain(key): self.clean(v) for key, v in value.items() if key not in gone}
            if isinstance(out.get("time"), dict):
                out["time"] = {key: v for key, v in out["time"].items() if key not in OF_TIME}
            return out
        if isinstance(value, list):
            return [self.clean(v) for v in value]
        return self.read(value) if isinstance(value, str) else value

    def read(self, text: str) -> Any:
        """A text; as a value where it is a JSON table, as lines where it has several."""
        if text.lstrip().startswith("{"):
            try:
                return self.clean(json.loads(text))
            except ValueError:
                pass
        rows = self.plain(text).split("\n")
        return rows if len(rows) > 1 else rows[0]

    def rows(self, text: str) -> list[Any]:
        """Lines, each by itself."""
        return [self.read(line) for line in text.splitlines()]


def words_of(step: Step, vary: bool) -> list[str]:
    """The words of a command, with the options that pin its arithmetic."""
    words = shlex.split(step.new if step.new and vary else step.old)
    pinned = {"sample": "--dtype float32 --device cpu", "train": "--device cpu", "score": "--device cpu"}
    pinned |= dict.fromkeys(("vary", "inpaint", "upscale"), pinned["sample"])
    if "--device" not in words and "--replay" not in words:
        words += pinned.get(words[0], "").split()
    return words


def play(case: Case, place: Place) -> dict[str, Any]:
    """Run a case in an empty folder; what came of it, as JSON."""
    place.work.mkdir(parents=True)
    place.home.mkdir()
    for name in case.inputs:
        path = place.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(INPUTS[name]())
    started, steps = spent(), []
    for step in case.steps:
        for pattern in step.remove:
            for path in place.work.glob(pattern):
                path.unlink()
        done = place.run(words_of(step, place.vary))
        said = [place.plain(line) for line in done.err.splitlines() if line.startswith("t2i:")]
        if done.code != step.code and not said:  # not what anybody meant: its last words help
            said = place.plain(done.err[-1500:]).splitlines()
        steps.append({"exit": done.code, "stdout": place.rows(done.out), "stderr": said})
    files = {name: look_at(path, place) for name, path in files_of(place.work)}
    return {"steps": steps, "files": files, "home": [name for name, _ in files_of(place.home)],
            "seconds": spent() - started}  # fmt: skip


def spent() -> float:
    """Seconds of computing by the commands so far; by the clock where the system does not count them."""
    try:
        import resource
    except ImportError:
        return time.monotonic()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def files_of(folder: Path) -> list[tuple[str, Path]]:
    """(relative name, path) of every file, but for those with names of the moment."""
    found = ((path.relative_to(folder).as_posix(), path) for path in sorted(folder.rglob("*")) if path.is_file())
    return [(name, path) for name, path in found if not any(fnmatch.fnmatch(path.name, no) for no in NO_FILES)]


def look_at(path: Path, place: Place) -> Any:
    """What a file holds, as JSON to compare: pixels and tensors by their sha256."""
    kind = path.suffix.lower()
    try:
        if kind in PICTURES:
            return look_at_picture(path, place)
        if kind == ".safetensors":
            return look_at_tensors(path.read_bytes(), place)
        if kind == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return {name: describe(arrays[name]) for name in sorted(arrays.files)}
        if kind == ".jsonl":
            return place.rows(path.read_text("utf-8"))
        return place.read(path.read_text("utf-8"))
    except Exception as error:  # a damaged input, or something that no longer is what its name says
        return {"unread": type(error).__name__, "sha256": sha256(path.read_bytes())}


def look_at_picture(path: Path, place: Place) -> dict[str, Any]:
    """Pixels, frames and marks of a picture."""
    with Image.open(path) as image:
        pixels = [describe(frame) for frame in frames_of(path)]
        info = {key: value for key, value in image.info.items() if key not in ("exif", "duration")}
        marks = {key: marked(value, place) for key, value in sorted(info.items())}
        exif = {str(tag): str(value) for tag, value in image.getexif().get_ifd(0x8769).items()}
        facts = {"format": image.format, "mode": image.mode, "size": list(image.size)}
        return {**facts, "pixels": pixels, "marks": marks, "exif": place.clean(exif)}


def marked(value: Any, place: Place) -> Any:
    """A text chunk, an XMP packet with our record taken out of it, or something else."""
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except ValueError:
            return sha256(value)
    if not isinstance(value, str):
        return repr(value)
    record = re.search(r"<t2i:record>(.*?)</t2i:record>", value, re.S)
    if record is None:
        return place.read(value)
    rest = value[: record.start(1)] + value[record.end(1) :]
    return {"record": place.read(html.unescape(record[1])), "xmp": place.read(rest)}


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """Every frame, as 8 bit RGBA."""
    with Image.open(path) as image:
        for frame in ImageSequence.Iterator(image):
            yield np.asarray(frame.convert("RGBA"))


def look_at_tensors(data: bytes, place: Place) -> dict[str, Any]:
    """Names, types, shapes and bytes of the tensors of a safetensors file, and its metadata."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    said = header.pop("__metadata__", {})
    tensors = {}
    for name, facts in sorted(header.items()):
        start, end = facts["data_offsets"]
        content = sha256(data[8 + size + start : 8 + size + end])
        tensors[name] = f"{facts['dtype']} {facts['shape']} {content}"
    return {"tensors": tensors, "metadata": place.clean(said)}


def describe(array: np.ndarray) -> str:
    """Type, shape and bytes of an array."""
    return f"{array.dtype} {list(array.shape)} {sha256(np.ascontiguousarray(array).tobytes())}"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:24]


# The old side, kept ----------------------------------------------------------------------------------------------


class Kept:
    """The old side's results: from the cache, or from a run."""

    def __init__(self, tree: Path | None, folder: Path, new: Path, fork: bool) -> None:
        self.given, self.folder, self.new, self.fork = tree, folder, new, fork

    @cached_property
    def tree(self) -> Path:
        """The old tree: the one given, or the commit taken out of the new tree's git."""
        if self.given is not None:
            return self.given
        place = self.folder / f"tree-{BASE}"
        if not place.is_dir():
            done = subprocess.run(["git", "-C", str(self.new), "archive", BASE], capture_output=True, check=False)
            if done.returncode:
                raise Refusal(f"the commit {BASE} is not in the git of {self.new}: name a checkout with --old")
            part = place.with_suffix(f".{os.getpid()}")
            with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
                tar.extractall(part, filter="data")
            part.rename(place)
        return place

    @cached_property
    def code(self) -> str:
        """A name for the old tree's code and models."""
        tree, name = self.tree, hashlib.sha256()
        found = [p for p in (tree / "t2i").rglob("*") if p.is_file() and "__pycache__" not in p.parts]
        for path in sorted([*found, *(tree / "weights").rglob("*.json")]):
            name.update(f"{path.relative_to(tree)}\n".encode() + path.read_bytes())
        return name.hexdigest()[:24]

    def result(self, case: Case, scratch: Path) -> tuple[dict[str, Any], Path, bool]:
        """(what came of the case, its folder, whether it was kept from before)."""
        place = self.folder / f"{case.name}-{key_of(case)}"
        facts = place / "snapshot.json"
        if facts.is_file():
            found = json.loads(facts.read_text("utf-8"))
            if self.given is None or found["code"] == self.code:
                return found, place / "work", True
        ran = Place(self.tree, scratch, fork=self.fork)
        found = {**play(case, ran), "code": self.code}
        shutil.rmtree(place, ignore_errors=True)
        part = place.with_suffix(f".{os.getpid()}")
        for name, path in files_of(ran.work):  # pixels, to say how far off others are
            if path.suffix.lower() in PICTURES:
                (part / "work" / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, part / "work" / name)
        part.mkdir(parents=True, exist_ok=True)
        (part / "snapshot.json").write_text(json.dumps(found, ensure_ascii=False, indent=1), "utf-8")
        try:
            part.rename(place)
        except OSError:  # another run has been faster
            shutil.rmtree(part, ignore_errors=True)
        return found, place / "work", False


def key_of(case: Case) -> str:
    """By what an old result is known: the commands, the inputs, the machine, and what computes."""
    commands = [[words_of(step, False), step.remove] for step in case.steps]
    inputs = [[name, sha256(INPUTS[name]())] for name in case.inputs]
    return sha256(json.dumps([FORM, commands, inputs, machine()]).encode())[:12]


@cache
def machine() -> list[str]:
    """The processor and the libraries, on which bits may depend."""
    try:
        cpu = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text("utf-8", "replace"))
    except OSError:
        cpu = None
    libraries = [f"{name} {version(name)}" for name in ("torch", "numpy", "pillow", "tokenizers", "safetensors")]
    return [cpu[1] if cpu else platform.processor(), platform.python_version(), *libraries]


class Refusal(Exception):
    """Something that cannot be done: a sentence, and exit 2."""


# The comparison --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Difference:
    """A place where the two sides are not the same."""

    path: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{self.path}: {brief(self.old)} -> {brief(self.new)}"


def brief(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 140 else text[:137] + "…"


def differences(old: Any, new: Any, path: str = "") -> Iterator[Difference]:
    """Everything that is not the same in two JSON values; a table that is absent, key by key."""
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted(old.keys() | new.keys()):
            yield from differences(old.get(key, ABSENT), new.get(key, ABSENT), f"{path}.{key}" if path else key)
    elif isinstance(old, list) and isinstance(new, list):
        for i in range(max(len(old), len(new))):
            was, now = (side[i] if i < len(side) else ABSENT for side in (old, new))
            yield from differences(was, now, f"{path}[{i}]")
    elif type(old) is not type(new) or old != new:
        yield Difference(path, old, new)


def compare(case: Case, old: dict[str, Any], new: dict[str, Any], folders: tuple[Path, Path], vary: bool) -> list[str]:
    """Sentences about what differs and is not allowed."""
    out = []
    for i, (step, was) in enumerate(zip(case.steps, old["steps"], strict=True)):
        if was["exit"] != step.code:
            said = " ".join(was["stderr"])[-300:]
            out.append(f"step {i + 1}: the OLD side exits {was['exit']}, expected {step.code}: {said}")
    spelled = vary and any(step.new for step in case.steps)
    for part in ("steps", "home", "files"):
        for found in differences(old[part], new[part], part):
            if any(row.covers(case, spelled, found) for row in ALLOWED):
                continue
            pixels = re.fullmatch(r"files\.(.*)\.pixels\[(\d+)\]", found.path)
            if pixels and ABSENT not in (found.old, found.new):
                out.append(f"{pixels[1]}: {off(folders, pixels[1], int(pixels[2]))}")
            else:
                out.append(str(found))
    return out


def off(folders: tuple[Path, Path], name: str, index: int) -> str:
    """How far the pixels of a frame are off."""
    was, now = ([*frames_of(folder / name)][index].astype(int) for folder in folders)
    if was.shape != now.shape:
        return f"{was.shape[1]}x{was.shape[0]} pixels -> {now.shape[1]}x{now.shape[0]}"
    gap = np.abs(was - now)
    moved = gap.max(-1) > 0
    return f"{moved.sum()} of {moved.size} pixels differ, by {gap.max()} of 255 at most, {gap.mean():.3f} in the mean"


def main() -> int:
    """Run, compare, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--old", type=Path, help=f"a checkout of the old code [default: commit {BASE}, from git]")
    parser.add_argument("--new", type=Path, default=Path(__file__).resolve().parents[2], help="the new code")
    parser.add_argument("--cache", type=Path, help="where old results are kept")
    parser.add_argument("--only", action="append", metavar="PATTERN", help="cases by name, as in 'train*'")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the new side's folders here")
    parser.add_argument("--spawn", action="store_true", help="a new interpreter for each command, which takes longer")
    parser.add_argument("--list", action="store_true", help="name the cases and their commands")
    args = parser.parse_args()
    cases = [c for c in CASES if not args.only or any(fnmatch.fnmatch(c.name, only) for only in args.only)]
    if args.list:
        for c in cases:
            print("\n    ".join([c.name, *(shlex.join(words_of(step, False)) for step in c.steps)]))
        return 0
    if any(os.environ.get(key) != value for key, value in PINNED.items()):  # libraries ask when they are loaded
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **PINNED})
    with tempfile.TemporaryDirectory(prefix="golden-") as scratch:
        try:
            return check(cases, args, Path(scratch).resolve())
        except Refusal as error:
            print(f"golden: {error}", file=sys.stderr)
            return 2


def check(cases: list[Case], args: argparse.Namespace, scratch: Path) -> int:
    """The cases, one after the other. Raises Refusal where that cannot be done."""
    for tree in (args.old, args.new):
        if tree is not None and not (tree / "t2i" / "__main__.py").is_file():
            raise Refusal(f"{tree} holds no t2i")
    if not cases:
        raise Refusal("no case has such a name; see --list")
    new = args.new.resolve()
    fork = not args.spawn and hasattr(os, "fork")
    for module in AHEAD if fork else ():
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
    kept = Kept(args.old and args.old.resolve(), (args.cache or scratch / "cache").resolve(), new, fork)
    kept.folder.mkdir(parents=True, exist_ok=True)
    (scratch / "probe" / "work").mkdir(parents=True)
    vary = Place(new, scratch / "probe", fork=fork).run(["vary", "--help"]).code == 0
    print(f"new: {new} (pictures from pictures: {'t2i vary' if vary else 't2i sample, as before'})", flush=True)
    wrong, used = 0, [0.0, 0.0]
    for c in cases:
        old, before, known = kept.result(c, scratch / "old" / c.name)
        place = Place(new, (args.keep.resolve() if args.keep else scratch / "new") / c.name, vary, fork)
        shutil.rmtree(place.folder, ignore_errors=True)
        found = play(c, place)
        now = json.loads(json.dumps(found, ensure_ascii=False))
        faults = compare(c, old, now, (before, place.work), vary)
        seconds = f"old {'kept' if known else format(old['seconds'], '.1f') + ' s'}, new {now['seconds']:.1f} s"
        print(f"{'DIFFERENT' if faults else 'same':<10}{c.name:<20}{len(c.steps)} commands, {seconds}", flush=True)
        for fault in faults[:SHOWN]:
            print(f"    {fault}", flush=True)
        if len(faults) > SHOWN:
            print(f"    and {len(faults) - SHOWN} more", flush=True)
        wrong += bool(faults)
        used = [used[0] + old["seconds"], used[1] + now["seconds"]]
        for side in ("old", *([] if args.keep else ["new"])):
            shutil.rmtree(scratch / side, ignore_errors=True)
    alike = f"{len(cases) - wrong} of {len(cases)} cases are the same"
    print(f"{alike}; seconds of computing: {used[0]:.0f} old, {used[1]:.0f} new")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
