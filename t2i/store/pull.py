"""Fetches a model from the hub: what is to come is known before, each file is checked as it arrives, a lock pins them.

Files are fetched one after the other into NAME.part, which a later pull goes on with. A file gets its name when its
size and hash are those that the hub lists, and the lock is written when all of them are there.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from t2i.errors import InputError, UnavailableError
from t2i.files import explain_os_error, fsync_folder
from t2i.store.hub import MAX_PLAIN, HubFile, HubRepository, choose_files, hub_errors, read_repository
from t2i.store.hub_names import HubName
from t2i.store.pipeline_classes import INDEX
from t2i.store.pulled import LOCK, PART, Lock, LockedFile, PulledModel, folder_of, hub_home, read_lock

OnBytes = Callable[[str, int, int], None]
"""on_bytes(path of the file, bytes of the whole model that are here, bytes of the whole model)"""


@dataclass(frozen=True)
class PullPlan:
    """What a pull will fetch, and where to. variant: the weights that are preferred, "" for the plain ones."""

    repository: HubRepository
    files: tuple[HubFile, ...]
    folder: Path
    variant: str

    @property
    def size(self) -> int:
        """Of all files, in bytes."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> int:
        """Bytes that are still to be fetched."""
        return sum(max(0, file.size - _here(self, file)) for file in self.files)


def plan_pull(name: HubName, variant: str = "") -> PullPlan:
    """Ask the hub what there is; of the files only model_index.json is read, and nothing is written.

    Raises UnavailableError and InputError as `read_repository`; InputError for a repository that holds no model that
    t2i reads.
    """
    repository = read_repository(name)
    index = None
    if INDEX in repository.files:
        try:
            index = json.loads(_small(repository, repository.files[INDEX]))
            if not isinstance(index, dict):
                raise ValueError("it is not a table")
        except (ValueError, RecursionError) as error:
            raise InputError(f"{INDEX} of {name} cannot be used: {error}.", code="bundle") from error
    files = choose_files(repository, index, variant)
    return PullPlan(repository, tuple(files), folder_of(name.repo, repository.commit), variant)


def pull(plan: PullPlan, on_bytes: OnBytes = lambda path, done, total: None) -> PulledModel:
    """Fetch what is missing, and write the lock.

    Raises UnavailableError: no network, no access, another pull of it is running. InputError: no room, a file that is
    not what the hub lists.
    """
    repository = plan.repository
    _check_room(plan)
    try:
        plan.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make {plan.folder}: {explain_os_error(error)}.", "Set T2I_HOME.", "output") from error
    from filelock import FileLock, Timeout

    try:
        with FileLock(plan.folder / ".pull.lock", timeout=0):
            done, locked = 0, {}
            for file in plan.files:
                locked[file.path] = _place(plan, file, partial(_report, on_bytes, file.path, done, plan.size))
                done += file.size
            now = datetime.now(UTC).isoformat(timespec="seconds")
            lock = Lock(
                repository.name.repo, repository.commit, repository.name.revision or "main", repository.licence,
                repository.gated, plan.variant, repository.hub, now, locked,
            )  # fmt: skip
            lock.write(plan.folder)
    except Timeout as error:
        raise UnavailableError(f"another pull of {repository.name} is running.", "Wait for it.") from error
    return PulledModel(plan.folder, repository.name.repo, lock)


def is_complete(plan: PullPlan) -> bool:
    """Whether all of it was pulled before, by the folder's lock."""
    if not (plan.folder / LOCK).is_file():
        return False
    lock = read_lock(plan.folder)
    names = {file.path for file in plan.files}
    return names <= set(lock.files) and all((plan.folder / name).is_file() for name in names)


def _report(on_bytes: OnBytes, path: str, before: int, total: int, here: int) -> None:
    on_bytes(path, before + here, total)


def _here(plan: PullPlan, file: HubFile) -> int:
    """How many bytes of a file are on this disk already."""
    target = plan.folder / file.path
    for path in (target, _part(target)):
        if path.is_file():
            return min(path.stat().st_size, file.size)
    return file.size if _elsewhere(plan.repository, file) else 0


def _part(target: Path) -> Path:
    return target.with_name(target.name + PART)


def _check_room(plan: PullPlan) -> None:
    where = next(folder for folder in (hub_home(), *hub_home().parents) if folder.is_dir())
    free = shutil.disk_usage(where).free
    if plan.missing > free:
        what = (
            f"{plan.repository.name} needs {plan.missing / 1e9:.1f} GB more, and {where} has {free / 1e9:.1f} GB free."
        )
        raise InputError(what, "Make room there, or set T2I_HOME to a folder on another disk.", "output")


def _place(plan: PullPlan, file: HubFile, on_bytes: Callable[[int], None]) -> LockedFile:
    """See that a file is in the folder and is what the hub lists."""
    target = plan.folder / file.path
    if target.is_file():
        with suppress(InputError):  # damaged since: it is fetched again
            return _checked(target, file, on_bytes)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = _part(target)
    if _take(plan.repository, file, part):
        with suppress(InputError):
            locked = _checked(part, file, on_bytes)
            os.replace(part, target)
            return locked
    _fetch(plan.repository, file, part, on_bytes)
    locked = _checked(part, file, on_bytes)
    os.replace(part, target)
    fsync_folder(target.parent)
    return locked


def _elsewhere(repository: HubRepository, file: HubFile) -> Path | None:
    """The file in the cache of huggingface_hub, where another program has put it, or None."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository.name.repo, file.path, revision=repository.commit)
    path = Path(found).resolve() if isinstance(found, str) else None
    return path if path is not None and path.is_file() and path.stat().st_size == file.size else None


def _take(repository: HubRepository, file: HubFile, part: Path) -> bool:
    """Link or copy the file from there, so that nothing is fetched twice. Whether it was there."""
    source = None if part.exists() else _elsewhere(repository, file)
    if source is None:
        return False
    try:
        os.link(source, part)
    except OSError:  # on another disk
        shutil.copyfile(source, part)
    return True


def _fetch(repository: HubRepository, file: HubFile, part: Path, on_bytes: Callable[[int], None]) -> None:
    """Fetch a file into `part`, from where an earlier pull stopped."""
    if part.exists() and part.stat().st_size > file.size:
        part.unlink()
    with open(part, "ab") as out, hub_errors(repository.name, repository.hub):
        _transfer(repository, file, out, on_bytes)
        out.flush()
        os.fsync(out.fileno())


def _transfer(repository: HubRepository, file: HubFile, out: BinaryIO, on_bytes: Callable[[int], None]) -> None:
    """Append the rest of a file to `out`, never more bytes than the hub lists."""
    from huggingface_hub import hf_hub_url
    from huggingface_hub.file_download import http_get
    from huggingface_hub.utils import build_hf_headers, logging

    logging.set_verbosity_error()  # it would report each of its retries
    url = hf_hub_url(repository.name.repo, file.path, revision=repository.commit, endpoint=repository.hub)
    http_get(
        url,
        out,
        resume_size=out.tell(),
        headers=build_hf_headers(library_name="t2i"),
        expected_size=file.size,
        tqdm_class=partial(_Meter, file, out, on_bytes),  # it takes any callable
    )


class _Meter:
    """Stands in for the progress bar of huggingface_hub, which asks for `update` before each write."""

    def __init__(self, file: HubFile, out: BinaryIO, on_bytes: Callable[[int], None], **bar: Any) -> None:
        self.file, self.out, self.on_bytes = file, out, on_bytes

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def update(self, n: int) -> None:
        """n bytes have arrived and are about to be written; negative ones are to be fetched again."""
        here = self.out.tell() + max(n, 0)
        if here > self.file.size:
            what = f"{self.file.path} goes on after the {self.file.size} bytes that the hub lists."
            raise InputError(what, "Is HF_ENDPOINT a hub that you trust?")
        self.on_bytes(here)


def _small(repository: HubRepository, file: HubFile) -> bytes:
    """A small file, checked, in memory."""
    if file.size > MAX_PLAIN:
        raise InputError(f"{file.path} of {repository.name} has {file.size} bytes.", code="bundle")
    out = io.BytesIO()
    with hub_errors(repository.name, repository.hub):
        _transfer(repository, file, out, lambda here: None)
    data = out.getvalue()
    if not _is_listed(file, io.BytesIO(data), len(data))[0]:
        raise _other_file(file, "It was not used.")
    return data


def _checked(path: Path, file: HubFile, on_bytes: Callable[[int], None]) -> LockedFile:
    """The size and sha256 of a file on disk. Removes it and raises InputError if it is not what the hub lists."""
    with open(path, "rb") as data:
        same, sha256 = _is_listed(file, data, path.stat().st_size)
    if not same:
        path.unlink()
        raise _other_file(file, "It was removed; pull again.")
    on_bytes(file.size)
    return LockedFile(file.size, sha256)


def _is_listed(file: HubFile, data: BinaryIO, size: int) -> tuple[bool, str]:
    """Whether data is the file that the hub lists, and its sha256. git's hash of a file is that of a header and it."""
    digests = [hashlib.sha256(), hashlib.sha1(f"blob {size}\0".encode(), usedforsecurity=False)]
    while block := data.read(1 << 20):
        for digest in digests if file.blob else digests[:1]:
            digest.update(block)
    sha256 = digests[0].hexdigest()
    same = sha256 == file.sha256 if file.sha256 else digests[1].hexdigest() == file.blob
    return same and size == file.size, sha256


def _other_file(file: HubFile, then: str) -> InputError:
    what = f"{file.path} as it was fetched is not the file that the hub lists (its hash differs)."
    return InputError(what, f"{then} If it stays so, do not trust this hub or mirror.")
