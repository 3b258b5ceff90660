"""What to draw and where to put it: a picture to be, file names, and the key by which a picture is known
again."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import Any

from t2i.cli.dials import Dials
from t2i.errors import UsageError
from t2i.files import variant

MAX_SLUG = 150  # bytes: with a seed and an ending a name stays below the 255 that file systems take
MAX_NAME = 240  # bytes of a file name: a stage's name or "-2" may still be added
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
FIELDS = ("index", "slug", "seed", "model", "n")


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be: ``n`` is its number within its prompt, ``index`` its number in the run, both from
    0. ``name`` takes the prompt's place in file names; ``label`` says which values of a sweep it has."""

    prompt: str
    seed: int
    n: int
    index: int
    dials: Dials
    name: str = ""
    label: tuple[str, ...] = ()


@lru_cache(4096)  # of a picture it is asked for when its place is checked, when it is looked for, and when it is saved
def slug(prompt: str) -> str:
    """A file name from a prompt: letters and digits of any script, hyphens between, at most 150 bytes."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    text = "".join(c if unicodedata.category(c)[0] in "LNM" else "-" for c in text)
    text = re.sub("-+", "-", text).strip("-")
    return text.encode()[:MAX_SLUG].decode(errors="ignore").strip("-") or "picture"


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
        if not output.strip() or any(unicodedata.category(c) == "Cc" for c in output):
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
                self._field(part, {})
        self.confined = is_template and len(self.parts) > 1
        #: one picture was named, not a place for many
        self.single = is_template and len(self.parts) == 1
        if self.confined and (Path(template).is_absolute() or ".." in Path(template).parts):
            raise self._leads_out(output)

    def path(self, job: Job) -> Path:
        """The file of a picture, before anything is done about files that are there already."""
        values = {
            "index": job.index,
            "seed": job.seed,
            "n": job.n,
            "model": self.model,
            "slug": slug(job.name or job.prompt),
        }
        text = "".join(self._field(part, values) if part[:1] == "{" else part for part in self.parts)
        return Path(text) if self.folder is None else self.folder / text

    def folders(self, jobs: list[Job]) -> set[Path]:
        """The folders that ``jobs`` write to. Raises UsageError for a name that no file system takes, or a
        link in a template that leads out of the current folder."""
        folders = set()
        for path in (self.path(job) for job in jobs):
            folders.add(path.parent)
            if len(path.name.encode(errors="surrogateescape")) > MAX_NAME:
                shown = f"{path.name[:40]}…"
                raise UsageError(f"-o: the name {shown!r} is too long for a file.", "Use {slug} once.")
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

    def _field(self, part: str, values: dict[str, Any]) -> str:
        # not str.format: its fields reach into objects
        found = re.fullmatch(r"\{([a-z]+)(?::0(\d))?\}", part)
        if not found or found[1] not in FIELDS or (found[2] and found[1] in ("slug", "model")):
            known = ", ".join(f"{{{f}}}" for f in FIELDS)
            raise UsageError(f"-o: {part!r} is not a field.", f"Fields are {known}, and {{index:03}}.")
        value = values.get(found[1], 0)
        return f"{value:0{int(found[2])}d}" if found[2] and isinstance(value, int) else str(value)


def variants(path: Path) -> Iterator[Path]:
    """``path``, then ``path``-2, -3 …"""
    return (variant(path, number) for number in count(1))
