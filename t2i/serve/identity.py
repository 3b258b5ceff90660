"""What two processes must share to draw the same picture to the bit: weights, program, libraries, machine, threads."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import t2i
from t2i.store.load_options import LoadOptions
from t2i.store.models import StoredModel

PREFIXES = ("OMP_", "GOMP_", "KMP_", "MKL_", "OPENBLAS_", "ONEDNN_", "DNNL_", "ATEN_", "CUDA_", "CUBLAS_", "NVIDIA_",
            "PYTORCH_", "TORCH_", "HF_", "LD_")  # fmt: skip
"""Variables of the environment that the numerical libraries read."""


def identity(model: StoredModel, device: str, loading: LoadOptions) -> dict[str, str]:
    """What of a process decides a picture, by name; processes that agree in all of it draw the same. Imports no torch.

    device: as it was written, or as "auto" was resolved.
    """
    variables = {name: value for name, value in os.environ.items() if name.startswith(PREFIXES)}
    loaded = [loading.facts(), loading.memory]
    facts: dict[str, Any] = {
        "version": [t2i.__version__, _program()],
        "weights": [model.manifest.name, model.digest],
        "loading of the weights": loaded,
        "device": device,
        "libraries": [
            sys.executable,
            sys.version,
            *(_version(name) for name in ("torch", "diffusers", "transformers")),
        ],
        "environment": [variables, _processors()],
    }
    return {name: hashlib.sha256(json.dumps(fact, sort_keys=True).encode()).hexdigest() for name, fact in facts.items()}


def _program() -> list[Any]:
    """The files of this package, so that a program that was changed is another."""
    folder = Path(t2i.__file__).resolve().parent
    files = sorted(folder.rglob("*.py"))
    return [str(folder), *([str(file), file.stat().st_mtime_ns] for file in files)]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _processors() -> list[int]:
    """The processors that this process may use: libraries start a thread for each."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [os.cpu_count() or 0]
