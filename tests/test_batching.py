"""Memory that does not suffice, as the libraries say it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from t2i.batching import in_halves, out_of_memory
from t2i.errors import UnavailableError


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (RuntimeError("could not create a primitive"), True),
        (RuntimeError("could not execute a primitive"), True),
        (RuntimeError("could not create a primitive descriptor for a convolution"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_what_means_memory(error: Exception, is_memory: bool) -> None:
    assert out_of_memory(error) is is_memory


def test_halves_keep_the_order() -> None:
    tried: list[int] = []

    def draw(items: list[int]) -> list[int]:
        tried.append(len(items))
        if len(items) > 2:
            raise MemoryError
        return [-item for item in items]

    said: list[int] = []
    done = in_halves(draw, list(range(7)), said.append)
    assert [item for some, _ in done for item in some] == list(range(7))
    assert [drawn for _, some in done for drawn in some] == [-item for item in range(7)]
    assert tried == [7, 3, 1, 2, 4, 2, 2]
    assert said == [3, 1, 2]
    with pytest.raises(UnavailableError, match="one picture"):
        in_halves(lambda items: (_ for _ in ()).throw(MemoryError()), [1, 2, 3])
    with pytest.raises(RuntimeError, match="shapes"):
        in_halves(lambda items: (_ for _ in ()).throw(RuntimeError("shapes")), [1, 2, 3])


KERNELS = """
import json, resource
import torch
import torch.nn.functional as F
from t2i.batching import in_halves

def now():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

kept = {n: torch.ones(n, 48) for n in (5, 7, 9, 12)}
failures, tight = [], [True]
def draw(items):
    if tight[0]:
        resource.setrlimit(resource.RLIMIT_AS, (now(), resource.RLIM_INFINITY))
    try:
        return [float(F.gelu(kept[n]).sum()) for n in items]
    except RuntimeError as error:
        failures.append(str(error))
        raise
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        tight[0] = False
F.gelu(torch.ones(3, 48))
first = in_halves(draw, [5, 7, 9, 12])
again = in_halves(draw, [12, 9])
print(json.dumps([failures, first, again]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the limit is Linux's")
def test_a_kernel_that_found_no_room_does_not_spoil_the_rest() -> None:
    """The address space is limited for real while oneDNN compiles its kernel; then there is room again."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", KERNELS], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    failures, first, again = json.loads(done.stdout)
    assert len(failures) <= 1, failures
    one = first[0][1][0] / 5
    assert [n for some, _ in first for n in some] == [5, 7, 9, 12]
    values = [value for _, some in (*first, *again) for value in some]
    assert values == pytest.approx([n * one for n in (5, 7, 9, 12, 12, 9)])
