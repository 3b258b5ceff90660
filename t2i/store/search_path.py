"""The folders that models are looked for in, in this order:

$T2I_HOME/models     T2I_HOME is by default t2i in the user's cache folder
t2i/_weights         the models that an installed package carries
weights/             of a source checkout
"""

from __future__ import annotations

import os
from pathlib import Path


def home() -> Path:
    """$T2I_HOME, or t2i in the user's cache folder. It need not exist."""
    own = os.environ.get("T2I_HOME")
    if own:
        return Path(own).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "t2i"


def roots() -> list[tuple[str, Path]]:
    """(name, folder) of every folder that is searched, in order. They need not exist."""
    package = Path(__file__).resolve().parent.parent
    places = [("home", home() / "models"), ("package", package / "_weights")]
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file():
        places.append(("checkout", checkout / "weights"))
    return places
