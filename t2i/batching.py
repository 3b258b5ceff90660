"""Batches that are halved when memory runs out. Pictures do not depend on their batch, so they stay the same."""

from __future__ import annotations

import errno
import gc
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from t2i.errors import UnavailableError

T = TypeVar("T")
R = TypeVar("R")
# torch raises a class of its own on a GPU, and a RuntimeError with one of these sentences on a CPU
MESSAGES = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|ALLOC_FAILED|could not create a memory"
    r"|could not (create|execute) a primitive(?! desc)"
    # a library that does not fit: the loader's sentence, in an ImportError or an OSError
    r"|failed to map segment|cannot allocate memory|cannot map zero-fill pages|cannot create shared object descriptor",
    re.IGNORECASE,
)
# oneDNN's message if there is no memory for a kernel that it compiles, or for its output. Xbyak's error is thread-local
# and never cleared: from then on every new kernel fails in this thread. Other threads are not affected.
SPOILT = re.compile(r"could not create a primitive(?! desc)", re.IGNORECASE)
_here = threading.local()


def out_of_memory(error: BaseException) -> bool:
    """Whether `error` means out of memory, on any device."""
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    told = isinstance(error, (RuntimeError, ImportError, OSError)) and bool(MESSAGES.search(str(error)))
    return isinstance(error, MemoryError) or told


def in_halves(
    draw: Callable[[list[T]], R], items: list[T], on_halving: Callable[[int], None] = lambda size: None
) -> list[tuple[list[T], R]]:
    """`draw(items)`, or, out of memory, of each half of the items, recursively: [(items, result), …].

    on_halving: called with the size that is tried next. Raises UnavailableError (code `memory`) if a single item does
    not fit; other errors pass through.
    """
    try:
        return [(items, _drawn(draw, items))]
    except (MemoryError, RuntimeError) as error:
        if not out_of_memory(error):
            raise
        if len(items) == 1:
            raise UnavailableError(
                "there is not enough memory for one picture.", "Try a smaller --size.", "memory"
            ) from error
    # outside the except block, because the exception keeps the frames and their tensors alive
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(items) // 2
    on_halving(half)
    return [*in_halves(draw, items[:half], on_halving), *in_halves(draw, items[half:], on_halving)]


def in_batches(draw: Callable[[list[T]], list[R]], items: Sequence[T], batch: int) -> list[R]:
    """`draw` applied to `batch` items at a time, or to fewer if memory runs out; all results in order.

    Raises UnavailableError (code `memory`) as `in_halves`.
    """
    parts = [list(items[i : i + batch]) for i in range(0, len(items), batch)]
    return [result for part in parts for _, results in in_halves(draw, part) for result in results]


def _drawn(draw: Callable[[list[T]], R], items: list[T]) -> R:
    """`draw(items)`, in a new thread if oneDNN has failed in this one."""
    if getattr(_here, "spoilt", False):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(draw, items).result()
    try:
        return draw(items)
    except RuntimeError as error:
        _here.spoilt = bool(SPOILT.search(str(error)))
        raise
