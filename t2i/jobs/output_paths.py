"""Where pictures are written: a folder or a template, names that are free, folders that can be written to."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.files import check_appendable, explain_os_error, variant

if TYPE_CHECKING:
    from t2i.jobs.job import Job

MAX_SLUG = 150  # bytes: with a seed and an ending a name stays below the 255 that file systems take
MAX_SAID = 60  # bytes of the settings in a name
MAX_NAME = 240  # bytes of a file name: a stage's name or "-2" may still be added
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
OTHERS = (".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".jxl", ".jp2", ".svg", ".pdf")  # meant as pictures
TEXTS = (".txt", ".jsonl")  # prompts, beside pictures
FIELDS = ("index", "slug", "seed", "model", "n")


@lru_cache(4096)  # asked three times of each picture: checking folders, looking it up, saving
def slug(prompt: str) -> str:
    """A file name from a prompt: letters and digits of any script, joined by hyphens, at most 150 bytes."""
    text = unicodedata.normalize("NFKC", prompt).lower()
    text = "".join(c if unicodedata.category(c)[0] in "LNM" else "-" for c in text)
    text = re.sub("-+", "-", text).strip("-")
    return text.encode()[:MAX_SLUG].decode(errors="ignore").strip("-") or "picture"


class OutputPaths:
    """Where pictures go: a folder (`{slug}-{seed}.png` in it) or a template with fields.

    A folder or the name of one picture may be anywhere; a template with fields must stay below the current folder.
    Raises UsageError for a template that leads out of it, has unknown fields, or does not end as a picture.
    """

    def __init__(self, output: str, model: str) -> None:
        if not output.strip() or any(unicodedata.category(c) == "Cc" for c in output):
            raise UsageError("-o names no folder.", "Write -o out/")  # one path a line: no line breaks
        is_template = "{" in output or output.lower().endswith(SUFFIXES)
        template = output if is_template else str(Path(output) / "{slug}-{seed}.png")
        meant = not is_template and Path(output).suffix.lower() in OTHERS and not Path(output).is_dir()
        if meant or Path(template).suffix.lower() not in SUFFIXES:  # also for a name that is nothing but an ending
            raise UsageError(f"-o {output!r} does not end in .png, .jpg or .webp.", "Write {slug}-{seed}.png")
        self.model = slug(model)
        self.parts = re.split(r"(\{[^{}]*\})", template if is_template else "{slug}-{seed}.png")
        self.folder = None if is_template else Path(output)
        for part in self.parts:
            if "{" in part or "}" in part:
                self._field(part, {})
        self.confined = is_template and len(self.parts) > 1
        self.single = is_template and len(self.parts) == 1
        """One picture was named, not a place for many."""
        if self.confined and (Path(template).is_absolute() or ".." in Path(template).parts):
            raise self._leads_out(output)

    def names(self, job: Job) -> list[Path]:
        """The files that a picture may have, the best first; then come numbered variants of the last.

        In a folder, the name says the settings where the plain name is taken, and always for a point of a sweep:
        a-cat-7-guidance-3.png.
        """
        plain = self.path(job)
        if self.folder is None or not job.said:
            return [plain]
        said = slug(job.said).encode()[:MAX_SAID].decode(errors="ignore").strip("-")
        telling = plain.with_name(f"{plain.stem}-{said}{plain.suffix}")
        return [telling] if job.label else [plain, telling]

    def path(self, job: Job) -> Path:
        """The plain name of a picture, which says nothing of its settings."""
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
        """The folders that jobs write to. Raises UsageError for a file name that is too long, or a link that leads out
        of the current folder."""
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

    def check(self, jobs: list[Job], kept: Collection[Path] = ()) -> None:
        """Raise InputError (code `output`) for a folder that cannot be written to, UsageError as `folders` and for a
        picture in the place of one of `kept`."""
        for folder in self.folders(jobs):
            check_writable(folder)
        if kept:
            check_inputs_kept((("-o", name) for job in jobs for name in self.names(job)), kept)

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


def named_file(output: str, pictures: int) -> Path | None:
    """The file that `-o` names for a lone picture, None where it names a folder.

    Raises UsageError for one file where there are several pictures, and for an ending that is not written.
    """
    path = Path(output)
    ending = path.suffix.lower()
    if path.is_dir() or ending not in (*SUFFIXES, *OTHERS):
        return None
    if ending in OTHERS:
        raise UsageError(f"-o {output!r} does not end in .png, .jpg or .webp.", "Write -o big.png")
    if pictures > 1:
        raise UsageError(f"-o {output!r} is one file, and there are {pictures} pictures.", "Write -o big/")
    return path


def variants(path: Path) -> Iterator[Path]:
    """`path`, then `path`-2, -3 …"""
    return (variant(path, number) for number in count(1))


def make_folder(folder: Path) -> None:
    """Make `folder` and those above it. Raises InputError (code `output`)."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = explain_os_error(error)
        raise InputError(f"cannot make the folder {folder}: {what}.", "Choose another with -o.", "output") from error


def check_file(option: str, path: Path) -> None:
    """Raise InputError (code `output`) unless a file can be written at `path`. Leaves nothing behind. option: the
    option that names the file."""
    hint = f"Choose another file with {option}."
    check_writable(path.parent, hint)
    try:
        if path.exists():
            check_appendable(path)
    except (OSError, ValueError) as error:
        what = explain_os_error(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot write {path}: {what}.", hint, "output") from error


def check_inputs_kept(outputs: Iterable[tuple[str, Path]], inputs: Iterable[Path]) -> None:
    """Raise UsageError for an output that would replace a file that is read.

    outputs: (option, the file that it names). inputs: files, and folders whose pictures and prompts are read, at any
    depth.
    """
    read = {path.resolve() for path in inputs}
    folders = {path for path in read if path.is_dir()}
    for option, path in outputs:
        place = path.resolve()
        is_below = place.suffix.lower() in (*SUFFIXES, *TEXTS) and not folders.isdisjoint(place.parents)
        if place.is_file() and (place in read or is_below):
            kind = "picture" if place.suffix.lower() in SUFFIXES else "file"
            raise UsageError(f"{option} would write over the {kind} {path}, which is read.", "Name another place.")


def check_writable(folder: Path, hint: str = "Choose another place.") -> None:
    """Raise InputError (code `output`) unless files can be made in `folder`, which need not exist. Leaves nothing
    behind."""
    import tempfile

    place = folder
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(20, "it is not a folder", str(place))
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:
        what = explain_os_error(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot write to {folder}: {what}.", hint, "output") from error
