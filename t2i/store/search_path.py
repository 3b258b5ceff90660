"""Where models are looked for, in this order:

$T2I_HOME/models     (T2I_HOME is by default t2i in the user's cache folder)
the installed package, which carries the small models
weights/ of a source checkout
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """Where this user's models are kept: $T2I_HOME, or t2i in the cache folder. It need not exist."""
    own = os.environ.get("T2I_HOME")
    if own:
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "t2i"


def roots() -> list[tuple[str, Path]]:
    """(what it is, folder) of every place that is searched, in order."""
    package = Path(__file__).resolve().parent.parent
    places = [("home", home() / "models"), ("package", package / "_weights")]
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file():
        places.append(("checkout", checkout / "weights"))
    return places
