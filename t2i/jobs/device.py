"""The device to compute on."""

from __future__ import annotations

import re

from t2i.errors import UnavailableError, UsageError
from t2i.torch_import import import_torch


def check_device(text: str) -> str:
    """Return the name. Raises UsageError for one that is spelt wrong; `pick_device` tells whether it exists."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise UsageError(f"--device {text!r} is not known.", "Write auto, cpu, cuda, cuda:0 or mps.")
    return text


def pick_device(text: str) -> str:
    """The device to use, `auto` resolved. Imports torch. Raises UnavailableError (code `device`)."""
    import_torch()
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if text == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = text.partition(":")
    if (kind == "cuda" and int(index or 0) >= cuda) or (kind == "mps" and not mps):
        raise UnavailableError(f"there is no device {text!r} on this machine.", "Use --device auto.", "device")
    return text
