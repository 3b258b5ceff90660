"""The folders that models are looked for in, in this order:

$T2I_HOME/models     T2I_HOME is by default t2i in the user's cache folder
t2i/_weights         the models that an installed package carries
weights/             of a source checkout
"""

from __future__ import annotations

import os
from pathlib import Path

from t2i.errors import UsageError


def home() -> Path:
    """$T2I_HOME, or t2i in the user's cache folder. It need not exist. Raises UsageError where no home is known."""
    own = os.environ.get("T2I_HOME")
    try:
        if own:
            return Path(own).expanduser()
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "t2i"
    except RuntimeError as error:  # no such user, or a user without a home
        what = f"T2I_HOME is {own!r}, and there is no such home." if own else "this user has no home folder."
        raise UsageError(what, "Set T2I_HOME to a folder.") from error


def roots() -> list[tuple[str, Path]]:
    """(name, folder) of every folder that is searched, in order. They need not exist."""
    package = Path(__file__).resolve().parent.parent
    places = [("home", home() / "models"), ("package", package / "_weights")]
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file():
        places.append(("checkout", checkout / "weights"))
    return places
