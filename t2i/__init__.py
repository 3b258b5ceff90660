"""t2i: text to picture with the cascades of unCLIP and Imagen.

>>> import t2i
>>> pictures = t2i.load("small").sample("a cat in the snow", n=4)  # doctest: +SKIP

Importing the package is cheap: torch arrives with the first name that needs it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["InputError", "Model", "T2IError", "UnavailableError", "UsageError", "__version__", "load"]

if TYPE_CHECKING:
    from t2i.api import Model, load
    from t2i.errors import InputError, T2IError, UnavailableError, UsageError

_HOMES = {
    "Model": "t2i.api",
    "load": "t2i.api",
    "T2IError": "t2i.errors",
    "UsageError": "t2i.errors",
    "InputError": "t2i.errors",
    "UnavailableError": "t2i.errors",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 't2i' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
