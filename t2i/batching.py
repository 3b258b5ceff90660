"""Batches that halve themselves where memory does not suffice. The pictures are the same either way."""

from __future__ import annotations

import gc
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from t2i.errors import UnavailableError

T = TypeVar("T")
R = TypeVar("R")
# torch says it on a GPU with a class of its own, on a CPU with a RuntimeError and a sentence
SAID = re.compile(
    r"out of memory|can't allocate memory|not enough memory|bad_alloc|ALLOC_FAILED|could not create a memory"
    r"|could not (create|execute) a primitive(?! desc)",
    re.IGNORECASE,
)
# oneDNN says so when there is no room for a kernel that it compiles or for what the kernel writes to. It keeps the
# failure in the thread where it happened (Xbyak's error is thread-local and never cleared): from then on every new
# kernel fails there, however much memory there is. Another thread draws as ever.
SPOILT = re.compile(r"could not create a primitive(?! desc)", re.IGNORECASE)
_here = threading.local()


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` says that there is not enough memory, on whatever device."""
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and bool(SAID.search(str(error))))


def in_halves(
    draw: Callable[[list[T]], R], items: list[T], on_halving: Callable[[int], None] = lambda size: None
) -> list[tuple[list[T], R]]:
    """``draw(items)``, or where memory does not suffice, of each half of them: [(items, what was drawn), …].

    ``on_halving`` hears of the size that is tried next. Raises UnavailableError (code ``memory``) when one
    item alone does not fit; other errors pass.
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
    # outside the except block: the exception holds on to the frames and their tensors
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(items) // 2
    on_halving(half)
    return [*in_halves(draw, items[:half], on_halving), *in_halves(draw, items[half:], on_halving)]


def in_batches(draw: Callable[[list[T]], list[R]], items: Sequence[T], batch: int) -> list[R]:
    """``draw`` applied to ``batch`` items at a time, or to fewer where memory does not suffice; all results in order.

    Raises UnavailableError (code ``memory``) as `in_halves`.
    """
    parts = [list(items[i : i + batch]) for i in range(0, len(items), batch)]
    return [result for part in parts for _, results in in_halves(draw, part) for result in results]


def _drawn(draw: Callable[[list[T]], R], items: list[T]) -> R:
    """``draw(items)``, in a thread of its own where this one is spoilt."""
    if getattr(_here, "spoilt", False):
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(draw, items).result()
    try:
        return draw(items)
    except RuntimeError as error:
        _here.spoilt = bool(SPOILT.search(str(error)))
        raise
