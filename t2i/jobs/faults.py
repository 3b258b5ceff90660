"""Any failure of a run as an error that can be told."""

from __future__ import annotations

from t2i.batching import out_of_memory
from t2i.errors import InternalError, T2IError, UnavailableError
from t2i.jobs.reporter import safe


def as_error(error: BaseException, hint: str = "Run it again with --debug and report what it prints.") -> T2IError:
    """`error` itself if it is one of ours; else a lack of memory, or a fault of ours with `hint`."""
    if isinstance(error, T2IError):
        return error
    told: T2IError
    if isinstance(error, Exception) and out_of_memory(error):
        told = UnavailableError("there is not enough memory for this.", "Try a smaller -n or --size.", "memory")
    else:
        told = InternalError(f"a fault of ours: {type(error).__name__}: {safe(str(error))[:300]}", hint)
    told.__cause__ = error
    return told
