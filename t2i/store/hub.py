"""What a repository on the hub holds, and which of its files are a model that t2i can read.

The hub is asked through the library huggingface_hub, which knows HF_ENDPOINT, HF_TOKEN and proxies. It is imported when
the hub is asked, never before. Nothing that the hub answers is trusted: names, sizes and hashes are checked here.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from t2i.errors import InputError, T2IError, UnavailableError
from t2i.files import explain_os_error
from t2i.store.hub_names import HubName
from t2i.store.pipeline_classes import INDEX
from t2i.store.weights_files import PICKLES, VARIANTS

MAX_PLAIN = 64 << 20  # bytes of a file that holds no weights, such as a tokenizer's
WAIT = 30.0  # seconds for an answer
WEIGHTS = re.compile(
    r"(?P<stem>[\w-]+?)(?:\.(?P<variant>\w+))?(?P<shard>-\d{5}-of-\d{5})?\.safetensors"
    r"|(?P<index>[\w-]+)\.safetensors\.index(?:\.(?P<of>\w+))?\.json",
    re.ASCII,
)


@dataclass(frozen=True)
class HubFile:
    """A file as the hub lists it: path in the repository, size in bytes, and its sha256, or for a small file that is
    not stored apart git's hash of it."""

    path: str
    size: int
    sha256: str = ""
    blob: str = ""


@dataclass(frozen=True)
class HubRepository:
    """A repository at one commit. licence: "" where the hub does not say it. files: by path. hub: its address."""

    name: HubName
    commit: str
    licence: str
    gated: bool
    files: dict[str, HubFile]
    hub: str


def endpoint() -> str:
    """The address of the hub. Raises UnavailableError where the network is not to be used."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if os.environ.get(name, "").upper() in ("1", "ON", "YES", "TRUE"):
            what = f"models are pulled over the network, and it is not to be used (--offline, or {name})."
            raise UnavailableError(what, "Pull on a machine with a network, and copy $T2I_HOME/hub.")
    from huggingface_hub import constants

    return (os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def read_repository(name: HubName) -> HubRepository:
    """Ask the hub for a repository's commit, licence and files.

    Raises UnavailableError: no network, no such repository or revision. InputError: an answer that makes no sense.
    """
    hub = endpoint()
    with hub_errors(name, hub):
        from huggingface_hub import HfApi

        info = HfApi(endpoint=hub, library_name="t2i").model_info(
            name.repo, revision=name.revision or None, files_metadata=True, timeout=WAIT
        )
        licence = (info.card_data or {}).get("license") or _tag(info.tags, "license:")
        files = [_file(sibling) for sibling in info.siblings or []]
        commit = str(info.sha)
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise _nonsense(hub, f"it names the commit {commit[:60]!r}")
    by_path = {file.path: file for file in files}
    if len(by_path) != len(files):
        raise _nonsense(hub, "it lists a file twice")
    return HubRepository(name, commit, str(licence or "")[:200], bool(info.gated), by_path, hub)


def choose_files(repository: HubRepository, index: Mapping[str, Any] | None, variant: str = "") -> list[HubFile]:
    """The files to fetch: the configs of each part, and its weights as safetensors, each once.

    index: model_index.json, or None for a repository without one, of which the files at the top are taken. variant: the
    weights to prefer, as in fp16; others are taken where a part has none of these.

    Raises InputError (code `bundle`) for a part whose weights are only there as a pickle.
    """
    folders = [""]
    if index is not None:
        folders = [name for name, value in index.items() if isinstance(value, list) and any(value)]
    chosen = [file for path, file in repository.files.items() if "/" not in path and _describes(path)]
    for folder in folders:
        inside = {p.rpartition("/")[2]: f for p, f in repository.files.items() if p.rpartition("/")[0] == folder}
        weights = _choose_weights(inside, variant)
        pickles = sorted(name for name in inside if name.endswith(PICKLES))
        if pickles and not weights:
            what = f"{repository.name} has {pickles[0] if not folder else f'{folder}/{pickles[0]}'} as a pickle only"
            hint = "Weights are read from safetensors files only; look for a revision that has them: ORG/NAME@REVISION."
            raise InputError(f"{what}, which can run code when it is opened.", hint, "bundle")
        chosen += weights
        chosen += [inside[name] for name in inside if _is_config(name) and not WEIGHTS.fullmatch(name)]
    if not any(file.path.endswith(".safetensors") for file in chosen):
        what = f"{repository.name} holds no weights that t2i reads (*.safetensors)."
        raise InputError(what, "Name a repository in diffusers' layout.", "bundle")
    for file in chosen:
        if file.size > MAX_PLAIN and not file.path.endswith(".safetensors"):
            raise _nonsense(repository.hub, f"{file.path} is said to have {file.size} bytes")
    return list({file.path: file for file in chosen}.values())


def _choose_weights(inside: Mapping[str, HubFile], variant: str) -> list[HubFile]:
    """The safetensors files of one folder, by name, in one variant; shards only where there is no whole file."""
    names = {name: found for name in inside if (found := WEIGHTS.fullmatch(name))}
    stems = dict.fromkeys(found["stem"] for found in names.values() if found["stem"])
    chosen: list[HubFile] = []
    for stem in stems:
        for of in dict.fromkeys((variant, *VARIANTS)):
            mine = {n: f for n, f in names.items() if f["stem"] == stem and (f["variant"] or "") == of}
            whole = [inside[n] for n, f in mine.items() if not f["shard"]]
            shards = [inside[n] for n in mine]
            if shards and not whole:
                shards += [inside[n] for n, f in names.items() if f["index"] == stem and (f["of"] or "") == of]
            if mine:
                chosen += whole or shards
                break
    return chosen


def _is_config(name: str) -> bool:
    return name.endswith((".json", ".txt", ".model")) and not name.startswith(".")


def _describes(name: str) -> bool:
    """Whether a file at the top of a repository says what the model is."""
    return name == INDEX or name == "README.md" or name.upper().startswith("LICEN")


def _file(sibling: Any) -> HubFile:
    """A file of the hub's answer. Raises ValueError."""
    path, size, lfs = sibling.rfilename, sibling.size, sibling.lfs
    parts = path.split("/")
    if not all(part not in ("", ".", "..") and len(part.encode()) < 250 for part in parts) or re.search(
        r"[\\:\x00-\x1f\x7f]", path
    ):
        raise ValueError(f"it lists {path[:80]!r}, which is no path inside a repository")
    if lfs is not None:
        size = lfs.size
    if type(size) is not int or size < 0:
        raise ValueError(f"it gives {path[:80]!r} the size {size!r}")
    sha256, blob = (str(lfs.sha256), "") if lfs is not None else ("", str(sibling.blob_id))
    if not re.fullmatch(r"[0-9a-f]{64}" if lfs is not None else r"[0-9a-f]{40}", sha256 or blob):
        raise ValueError(f"it gives no hash of {path[:80]!r}")
    return HubFile(path, size, sha256, blob)


def _tag(tags: Iterable[str] | None, start: str) -> str:
    return next((tag.removeprefix(start) for tag in tags or [] if tag.startswith(start)), "")


def _nonsense(hub: str, what: str) -> InputError:
    return InputError(f"the answer of {hub} cannot be used: {what}.", "Is HF_ENDPOINT a hub that you trust?")


@contextmanager
def hub_errors(name: HubName, hub: str) -> Iterator[None]:
    """Turns what goes wrong while the hub is asked into a T2IError."""
    from huggingface_hub import errors

    try:
        yield
    except T2IError:
        raise
    except errors.GatedRepoError as error:
        what = f"{name.repo} is gated: its publisher gives it to those who accept the terms at {hub}/{name.repo}."
        raise UnavailableError(what, "Accept them there, log in with `hf auth login`, and pull it again.") from error
    except errors.DisabledRepoError as error:
        raise UnavailableError(f"{hub} has disabled {name.repo}.", f"See {hub}/{name.repo}.") from error
    except errors.RevisionNotFoundError as error:
        raise UnavailableError(f"{name.repo} has no revision {name.revision!r}.", "", "model") from error
    except errors.RepositoryNotFoundError as error:
        what = f"{hub} has no {name.repo}, or shows it only to some."
        raise UnavailableError(
            what, "Check the name; for a private one log in with `hf auth login`.", "model"
        ) from error
    except errors.HfHubHTTPError as error:
        status = error.response.status_code if error.response is not None else "an error"
        raise UnavailableError(f"{hub} answered {status} for {name.repo}.", "Try it again later.") from error
    except errors.HTTPError as error:  # of httpx, under the name that the installed version gives it
        why = str(error).strip().split("\n")[0] or type(error).__name__
        hint = "Try it again with a network; a pull goes on where it stopped."
        raise UnavailableError(f"{hub} cannot be reached: {why}.", hint) from error
    except OSError as error:
        if error.errno is None:  # the library's own: fewer bytes than were promised
            hint = "What has arrived is kept: the same command goes on from there."
            raise UnavailableError(f"{hub} cut its answer short.", hint) from error
        raise InputError(f"cannot write: {explain_os_error(error)}.", "Make room there.", "output") from error
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        said = str(error).split("\n")[0][:200] or type(error).__name__
        raise _nonsense(hub, said) from error
