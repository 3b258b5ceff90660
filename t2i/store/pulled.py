"""Models that were pulled from the hub, and the lock that pins each of them.

    $T2I_HOME/hub/ORG/NAME@COMMIT/                the repository's files, as far as t2i reads them
    $T2I_HOME/hub/ORG/NAME@COMMIT/t2i.lock.json   where they came from, the size and sha256 of each

COMMIT is cut to 12 digits. The lock is written last: a folder without one is an unfinished pull. Nothing here touches
the network.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from t2i.errors import InputError, T2IError, UnavailableError, UsageError
from t2i.files import explain_os_error, hash_file, read_bytes, write_bytes
from t2i.jsonl import strict_json
from t2i.schema import build
from t2i.store.hub_names import HubName, parse_hub_name
from t2i.store.search_path import home

LOCK = "t2i.lock.json"
PART = ".part"  # what the name of a file ends in while it is being fetched
LOCK_SCHEMA = 1
SHORT_COMMIT = 12


@dataclass(frozen=True)
class LockedFile:
    """Size in bytes, and sha256 as it was computed from the file that arrived."""

    size: int
    sha256: str


@dataclass(frozen=True)
class Lock:
    """t2i.lock.json. repo: ORG/NAME. revision: what was asked for, a branch, a tag or a commit. variant: which of its
    weights were preferred, "" for the plain ones. pulled: when, in ISO 8601. files: path -> size and sha256."""

    repo: str
    commit: str
    revision: str
    licence: str
    gated: bool
    variant: str
    hub: str
    pulled: str
    files: dict[str, LockedFile]
    schema: int = LOCK_SCHEMA

    @property
    def size(self) -> int:
        """Of all its files, in bytes."""
        return sum(file.size for file in self.files.values())

    def write(self, folder: Path) -> None:
        """Write it into the folder. Raises InputError (code `output`)."""
        write_bytes(folder / LOCK, (json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n").encode())


@dataclass(frozen=True)
class PulledModel:
    """A folder below $T2I_HOME/hub. lock: None for an unfinished pull, or one whose lock cannot be read (fault)."""

    path: Path
    repo: str
    lock: Lock | None
    fault: str | None = None

    @property
    def name(self) -> str:
        """ORG/NAME@COMMIT, the commit cut to 12 digits."""
        return f"{self.repo}@{self.path.name.rpartition('@')[2]}"

    @property
    def size_on_disk(self) -> int:
        """Size of everything in the folder, in bytes."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


def hub_home() -> Path:
    """The folder of the pulled models. It need not exist."""
    return home() / "hub"


def folder_of(repo: str, commit: str) -> Path:
    """Where a commit of a repository is pulled to."""
    org, name = repo.split("/")
    return hub_home() / org / f"{name}@{commit[:SHORT_COMMIT]}"


def read_lock(folder: Path) -> Lock:
    """The lock of a folder. Raises InputError (code `bundle`)."""
    where = folder / LOCK
    try:
        lock: Lock = build(Lock, strict_json(read_bytes(where)))
        if lock.schema != LOCK_SCHEMA:
            raise ValueError(f"its schema {lock.schema} is not {LOCK_SCHEMA}")
    except OSError as error:
        raise InputError(f"{where} cannot be read: {explain_os_error(error)}.", "Pull it again.", "bundle") from error
    except ValueError as error:
        raise InputError(f"{where} cannot be used: {error}.", "Pull it again.", "bundle") from error
    return lock


def pulled_models() -> list[PulledModel]:
    """Every folder of a pulled model, by name; unfinished and damaged ones too."""
    models = []
    for path in sorted(hub_home().glob("*/*@*")):
        repo = f"{path.parent.name}/{path.name.rpartition('@')[0]}"
        if not path.is_dir() or parse_hub_name(repo) is None:
            continue
        if not (path / LOCK).exists():
            models.append(PulledModel(path, repo, None, f"the pull of {repo} is unfinished"))
            continue
        try:
            models.append(PulledModel(path, repo, read_lock(path)))
        except T2IError as error:
            models.append(PulledModel(path, repo, None, error.message))
    return models


def matching(name: HubName, models: list[PulledModel] | None = None) -> list[PulledModel]:
    """The pulled models that a name can mean, the one pulled last first; unfinished and damaged ones at the end."""
    found = []
    for model in pulled_models() if models is None else models:
        commit = model.lock.commit if model.lock else model.path.name.rpartition("@")[2]
        is_it = name.revision in ("", model.lock.revision if model.lock else "")
        is_commit = len(name.revision) >= 7 and commit.startswith(name.revision)
        is_short = name.revision[:SHORT_COMMIT] == commit  # of an unfinished pull only the first digits are known
        if model.repo.lower() == name.repo.lower() and (is_it or is_commit or is_short):
            found.append(model)
    return sorted(found, key=lambda model: model.lock.pulled if model.lock else "", reverse=True)


def find_pulled(name: HubName) -> Path:
    """The folder of a pulled model. Raises UnavailableError (code `model`) with the command that pulls it."""
    found = matching(name)
    if found and found[0].lock is not None:
        return found[0].path
    hint = f"There is no such folder; from the hub, fetch it once with `t2i models pull {name}`."
    if found:
        raise UnavailableError(f"{found[0].fault}.", f"Go on with `t2i models pull {name}`.", "model")
    raise UnavailableError(f"the model {str(name)!r} is not here.", hint, "model")


def check_lock(folder: Path, digests: Mapping[str, str]) -> None:
    """Compare the files that are about to be used (path -> sha256) with the folder's lock, if it has one.

    Raises InputError (code `bundle`) for a file that is another than the one that was pulled.
    """
    if not (folder / LOCK).exists():
        return
    lock = read_lock(folder)
    for path, digest in digests.items():
        if path not in lock.files:
            raise InputError(f"{folder / path} is not in {LOCK}.", "Remove it, or pull the model again.", "bundle")
        if lock.files[path].sha256 != digest:
            what = f"{folder / path} is not the file that was pulled (its sha256 differs)."
            raise InputError(what, f"Remove the model with `t2i models rm {lock.repo}`, and pull it again.", "bundle")


def verify_pulled(model: PulledModel) -> list[str]:
    """Read every file of a model and compare it with the lock. Returns the files; raises InputError (code `bundle`)
    for an unfinished pull, and for a file that is missing, changed, or not in the lock."""
    if model.lock is None:
        raise InputError(f"{model.fault}.", f"Go on with `t2i models pull {model.repo}`.", "bundle")
    for path, locked in model.lock.files.items():
        try:
            digest = hash_file(model.path / path)
        except OSError as error:
            what = f"{model.path / path} cannot be read: {explain_os_error(error)}."
            raise InputError(what, f"Fetch it again with `t2i models pull {model.repo}`.", "bundle") from error
        if digest != locked.sha256:
            check_lock(model.path, {path: digest})
    here = [file.relative_to(model.path).as_posix() for file in model.path.rglob("*.safetensors")]
    check_lock(model.path, {path: model.lock.files[path].sha256 if path in model.lock.files else "" for path in here})
    return list(model.lock.files)


def only_pulled(name: HubName) -> PulledModel:
    """The pulled or half-pulled model that a name means. Raises UnavailableError if it is not here, UsageError if the
    name can mean several."""
    found = matching(name)
    if not found:
        raise UnavailableError(f"the model {str(name)!r} is not here.", "See `t2i models list`.", "model")
    if len(found) > 1:
        what = f"{len(found)} revisions of {name.repo} are here."
        raise UsageError(what, f"Say which: {', '.join(model.name for model in found)}.")
    return found[0]


def remove_pulled(model: PulledModel) -> None:
    """Remove its folder. Raises InputError (code `output`)."""
    (model.path / LOCK).unlink(missing_ok=True)  # first: what is half removed is no model any more
    remove_folder(model.path)
    with suppress(OSError):  # others of the same publisher are there
        model.path.parent.rmdir()


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it. Raises InputError (code `output`)."""
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise InputError(f"cannot remove {folder}: {explain_os_error(error)}.", "", "output") from error
