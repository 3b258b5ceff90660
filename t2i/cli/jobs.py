"""What to draw and where to put it: prompts, seeds, file names and the key by which a picture is known
again."""

from __future__ import annotations

import hashlib
import json
import re
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.errors import InputError, T2IError, UsageError
from t2i.files import explain_os_error
from t2i.prompts import check_prompt

MAX_SLUG = 150  # bytes: with a seed and an ending a name stays below the 255 that file systems take
MAX_NAME = 240  # bytes of a file name: a stage's name or "-2" may still be added
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FIELDS = ("index", "slug", "seed", "model", "n")


@dataclass(frozen=True)
class Job:
    """One picture to be: ``n`` is its number within its prompt, ``index`` its number in the run, both from
    0."""

    prompt: str
    seed: int
    n: int
    index: int


def slug(prompt: str) -> str:
    """A file name from a prompt: letters and digits of any script, hyphens between, at most 150 bytes."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    text = "".join(c if unicodedata.category(c)[0] in "LNM" else "-" for c in text)
    text = re.sub("-+", "-", text).strip("-")
    return text.encode()[:MAX_SLUG].decode(errors="ignore").strip("-") or "picture"


def read_prompts(source: str) -> list[str]:
    """The prompts of a file, or of stdin for ``-``: one a line; blank lines and ``#`` comments are passed
    over.

    Raises InputError for a file that cannot be read or holds no prompt, UsageError (code ``prompt``) naming
    the line.
    """
    name = "stdin" if source == "-" else source
    if source.lower().endswith((".json", ".jsonl")):
        raise UsageError(f"{name} is not a prompt file.", "Write one prompt a line in a text file.")
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{name} is not UTF-8 text (line {line}).", "Save it as UTF-8.") from None
    except (OSError, ValueError) as error:
        what = explain_os_error(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot read the prompts in {name}: {what}.") from error
    prompts = []
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip() and not line.lstrip().startswith("#"):
            prompts.append(check_prompt(line, f"the prompt in line {number} of {name}"))
    if not prompts:
        raise InputError(f"{name} holds no prompt.", "Write one prompt a line.")
    return prompts


def seed_of(prompt: str, occurrence: int) -> int:
    """The seed of a line without one: from its text and how often it has come before, so that a rerun
    resumes."""
    return int.from_bytes(hashlib.sha256(f"{occurrence}\0{prompt}".encode()).digest()[:4], "big") >> 1


def plan(prompts: list[str], n: int, seeds: list[int] | None, from_file: bool, fallback: int) -> list[Job]:
    """The pictures to make, in order. ``fallback`` is the seed of a single prompt when none was given."""
    jobs: list[Job] = []
    seen: Counter[str] = Counter()
    for prompt in prompts:
        first = seed_of(prompt, seen[prompt]) if from_file else fallback
        seen[prompt] += 1
        for i, seed in enumerate(seeds if seeds is not None else range(first, first + n)):
            jobs.append(Job(prompt, seed, i, len(jobs)))
    return jobs


def content_key(weights: str, prompt: str, negative: str, seed: int, settings: dict[str, Any]) -> str:
    """What a picture is a function of, as a name: equal keys, equal pictures."""
    facts = [weights, prompt, negative, seed, settings]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


class Names:
    """Where pictures go: a folder (``{slug}-{seed}.png`` in it) or a template with whitelisted fields.

    A folder or the name of one picture may be anywhere; a template with fields stays below the current
    folder. Raises UsageError for a template that leads out of it, has unknown fields, or an ending that is no
    picture's.
    """

    def __init__(self, output: str, model: str) -> None:
        if not output or any(unicodedata.category(c) == "Cc" for c in output):
            raise UsageError("-o names no folder.", "Write -o out/")  # one path a line: no line breaks
        is_template = "{" in output or output.lower().endswith(SUFFIXES)
        template = output if is_template else str(Path(output) / "{slug}-{seed}.png")
        if not template.lower().endswith(SUFFIXES):
            raise UsageError(f"-o {output!r} does not end in .png, .jpg or .webp.", "Write {slug}-{seed}.png")
        self.model = slug(model)
        self.parts = re.split(r"(\{[^{}]*\})", template if is_template else "{slug}-{seed}.png")
        self.folder = None if is_template else Path(output)
        for part in self.parts:
            if "{" in part or "}" in part:
                self._field(part, Job("a", 0, 0, 0))
        self.confined = is_template and len(self.parts) > 1
        if self.confined and (Path(template).is_absolute() or ".." in Path(template).parts):
            raise self._leads_out(output)

    def path(self, job: Job) -> Path:
        """The file of a picture, before anything is done about files that are there already."""
        text = "".join(self._field(part, job) if part[:1] == "{" else part for part in self.parts)
        return Path(text) if self.folder is None else self.folder / text

    def folders(self, jobs: list[Job]) -> set[Path]:
        """The folders that ``jobs`` write to. Raises UsageError for a name that no file system takes, or a
        link in a template that leads out of the current folder."""
        paths = [self.path(job) for job in jobs]
        for path in paths:
            if len(path.name.encode(errors="surrogateescape")) > MAX_NAME:
                shown = f"{path.name[:40]}…"
                raise UsageError(f"-o: the name {shown!r} is too long for a file.", "Use {slug} once.")
        folders = {path.parent for path in paths}
        here = Path.cwd().resolve()
        for folder in folders if self.confined else ():
            if not folder.resolve().is_relative_to(here):
                raise self._leads_out(str(folder))
        return folders

    @staticmethod
    def _leads_out(what: str) -> UsageError:
        return UsageError(
            f"-o {what!r} leads out of the current folder.",
            "A template with fields stays below it; a plain folder, as in -o /there, may be anywhere.",
        )

    def _field(self, part: str, job: Job) -> str:
        # not str.format: its fields reach into objects
        found = re.fullmatch(r"\{([a-z]+)(?::0(\d))?\}", part)
        if not found or found[1] not in FIELDS or (found[2] and found[1] in ("slug", "model")):
            known = ", ".join(f"{{{f}}}" for f in FIELDS)
            raise UsageError(f"-o: {part!r} is not a field.", f"Fields are {known}, and {{index:03}}.")
        values = {
            "index": job.index,
            "seed": job.seed,
            "n": job.n,
            "model": self.model,
            "slug": slug(job.prompt),
        }
        value = values[found[1]]
        return f"{value:0{int(found[2])}d}" if found[2] and isinstance(value, int) else str(value)


def variants(path: Path) -> Iterator[Path]:
    """``path``, then ``path``-2, -3 …"""
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1


def find_done(path: Path, key: str) -> Path | None:
    """The file that already holds the picture with this key, under ``path`` or one of its variants; else
    None."""
    from t2i.images import read_metadata

    for candidate in variants(path):
        if not candidate.exists():
            return None
        try:
            record = read_metadata(candidate)["t2i"]
        except T2IError:
            continue  # not a picture of ours: it keeps its name
        if record is not None and record.get("key") == key:
            return candidate
    return None
