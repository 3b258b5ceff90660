"""From a checked folder to a pipeline of diffusers.

Each part is loaded by its own class, and the pipeline is put together from them. `DiffusionPipeline.from_pretrained` is
not used: it takes pickles where there are no safetensors, and leaves weights that a file lacks at random values.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.batching import out_of_memory
from t2i.errors import InputError, T2IError, UnavailableError
from t2i.store.diffusers_folder import Component, DiffusersFolder
from t2i.store.pipeline_classes import INDEX
from t2i.store.weights_files import HINT, remembered_hash, unusable

ROOTS = ("ModelMixin", "SchedulerMixin", "PreTrainedModel", "PreTrainedTokenizerBase", "ProcessorMixin") + (
    "ImageProcessingMixin",
    "BaseImageProcessor",
    "FeatureExtractionMixin",
)
"""Classes that every loadable part is derived from, in diffusers and in transformers."""


PLACES = {
    "stable_diffusion": "diffusers.pipelines.stable_diffusion",
    "deepfloyd_if": "diffusers.pipelines.deepfloyd_if",
    "unclip": "diffusers.pipelines.deprecated.unclip.text_proj",
}
"""Library in model_index.json -> the module that its classes are in, where it is another."""


def load_parts(folder: DiffusersFolder, dtype: str, shared: dict[tuple[str, ...], Any]) -> dict[str, Any]:
    """The parts of the pipeline by name, on the CPU.

    shared: networks that were loaded already, by the sha256 of their files; the stages of IF have one text encoder.

    Raises InputError (code `bundle`) for a class that does not exist, for weights that do not belong to their config,
    UnavailableError without diffusers or transformers.
    """
    quiet()
    parts = {}
    for name, part in folder.components.items():
        key = (part.cls, *map(remembered_hash, part.files)) if part.kind == "network" else (str(folder.path), name)
        if key not in shared:
            shared[key] = _load(folder.path / name, part, dtype)
        parts[name] = shared[key]
    return parts


def build(cls: type, parts: dict[str, Any], extras: dict[str, Any], where: Path) -> Any:
    """A pipeline of this class. Parts that it does not know are left out, those that it may lack are None."""
    takes = inspect.signature(cls).parameters
    given = {name: value for name, value in {**extras, **parts}.items() if name in takes}
    needed = [n for n, p in takes.items() if n not in given and p.default is inspect.Parameter.empty]
    for name in needed:
        if name not in getattr(cls, "_optional_components", ()):
            raise unusable(where / INDEX, f"it names no {name!r}, and a {cls.__name__} needs one")
        given[name] = None
    with explained(where):
        pipeline = cls(**given)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def pipeline_class(name: str) -> type:
    """A class of diffusers by its name. Raises UnavailableError where the installed version has none."""
    found = getattr(library("diffusers"), name, None)
    if found is None:
        raise UnavailableError(f"the installed diffusers has no {name}.", "Upgrade diffusers.", "dependency")
    return found  # type: ignore[no-any-return]


def quiet() -> None:
    """Keep progress bars and advice of the libraries off the terminal; errors are told by us."""
    for name in ("diffusers", "transformers"):
        log = library(name).utils.logging
        log.set_verbosity_error()
        log.disable_progress_bar()


def library(name: str, extra: str = "t2i[open]") -> Any:
    """A library that this extra of ours installs. Raises UnavailableError (code `dependency`)."""
    from importlib import import_module

    # they give advice to programmers while they are imported
    os.environ.setdefault("DIFFUSERS_VERBOSITY", "error")
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    try:
        return import_module(name)
    except ImportError as error:
        what = f"this needs the library {name}."
        raise UnavailableError(what, f"pip install '{extra}'", "dependency") from error


def _class_of(part: Component, place: Path) -> Any:
    found = getattr(library(PLACES.get(part.library, part.library)), part.cls, None)
    if not isinstance(found, type) or not {base.__name__ for base in found.__mro__} & set(ROOTS):
        raise unusable(place.parent, f"{part.name!r} is a {part.library}.{part.cls}, which is no part of a pipeline")
    return found


def _load(place: Path, part: Component, dtype: str) -> Any:
    cls = _class_of(part, place)
    if part.kind != "network":
        with explained(place):
            return cls.from_pretrained(place, local_files_only=True)
    import torch

    variant = {"variant": part.variant} if part.variant else {}
    with explained(place):
        net, info = cls.from_pretrained(
            place,
            local_files_only=True,
            use_safetensors=True,
            output_loading_info=True,
            dtype=getattr(torch, dtype),
            **variant,
        )
    missing = sorted(info.get("missing_keys") or [])
    wrong = [str(key) for key in info.get("mismatched_keys") or []]
    if missing or wrong:
        first = (missing or wrong)[0][:80]
        raise unusable(place, f"its weights and its config.json do not belong together ({first})")
    return net.eval().requires_grad_(False)


@contextlib.contextmanager
def without_warnings() -> Iterator[None]:
    """Keep advice to programmers, about arguments and configs that will change, off the terminal."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def explained(place: Path, hint: str = HINT) -> Iterator[None]:
    """Turn what the libraries raise for a damaged folder into an InputError that names it."""
    try:
        with without_warnings():
            yield
    except (T2IError, MemoryError):
        raise
    except Exception as error:
        if out_of_memory(error):
            raise
        why = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise InputError(f"{place} cannot be used: {why}", hint, "bundle") from error
