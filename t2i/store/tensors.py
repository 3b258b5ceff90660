"""Safetensors files, read strictly and written reproducibly.

The format: 8 bytes (length of the header, little-endian), a JSON header {name: {dtype, shape, data_offsets}}, data. The
library checks most of this too; it is checked here first, so that the error says in plain words what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from t2i.errors import InputError
from t2i.jsonl import strict_json

if TYPE_CHECKING:
    from torch import Tensor

MAX_HEADER = 8 << 20
MAX_DIMS = 8
Layout = tuple[str, tuple[int, ...]]
"""A tensor's type, as the file calls it (a key of `BYTES_OF`), and its shape."""
BYTES_OF = {
    "F64": 8,
    "F32": 4,
    "F16": 2,
    "BF16": 2,
    "I64": 8,
    "I32": 4,
    "I16": 2,
    "I8": 1,
    "U8": 1,
    "BOOL": 1,
}
FLOATING = frozenset(("F64", "F32", "F16", "BF16"))


def check_safetensors(data: bytes, where: str) -> dict[str, Layout]:
    """The layout of every tensor of a safetensors file. Raises InputError (code `bundle`) unless `data` is a
    well-formed file without gaps or overlaps."""
    return check_header(data, len(data), where)


def check_header(data: bytes, length: int, where: str) -> dict[str, Layout]:
    """The same from `data`, which holds at least the header. length: of the whole file in bytes."""
    if data[:2] == b"PK" or (data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        raise InputError(
            f"{where} is a pickle, which can run code when it is opened, and was not opened.",
            "Weights are read from safetensors files only.",
            "bundle",
        )
    if len(data) < 8:
        raise _wrong(where, "it is empty" if not data else "it is cut short")
    size = int.from_bytes(data[:8], "little")
    if size > MAX_HEADER:
        raise _wrong(where, "its header claims an impossible length")
    if 8 + size > len(data):
        raise _wrong(where, "it is cut short")
    try:
        header = strict_json(data[8 : 8 + size])
    except ValueError as error:
        raise _wrong(where, f"its header cannot be read ({error})") from error
    if not isinstance(header, dict):
        raise _wrong(where, "its header is not a table")
    layouts: dict[str, Layout] = {}
    spans: list[tuple[int, int, str]] = []
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        try:
            dtype, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
            width = BYTES_OF[dtype]
            sane = all(type(n) is int and 0 <= n <= length for n in [*shape, begin, end])
        except (KeyError, TypeError, ValueError) as error:
            raise _wrong(where, f"the entry {name[:80]!r} cannot be read") from error
        if len(shape) > MAX_DIMS:  # before anything is computed of them
            raise _wrong(where, f"{name[:80]!r} has {len(shape)} dimensions")
        if not sane or end - begin != math.prod(shape) * width:
            raise _wrong(where, f"the size of {name[:80]!r} does not match its shape")
        spans.append((begin, end, name))
        layouts[name] = dtype, shape
    at = 0
    for begin, end, name in sorted(spans):
        if begin != at:
            raise _wrong(where, f"the data of {name[:80]!r} overlaps other data or leaves a hole")
        at = end
    total = length - 8 - size
    if total != at:
        raise _wrong(where, "it is cut short" if total < at else "there are bytes after its end")
    return layouts


def _wrong(where: str, what: str) -> InputError:
    return InputError(f"{where} is not a usable safetensors file: {what}.", "Fetch or train it again.", "bundle")


def decode(data: bytes, where: str) -> dict[str, Tensor]:
    """The tensors of a safetensors file, on the CPU; floating ones as float32, all of them finite.

    where: what the error calls the file. Raises InputError (code `bundle`).
    """
    check_safetensors(data, where)
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        raw = load(data)
    except (SafetensorError, ValueError, RuntimeError) as error:
        raise InputError(f"{where} is not a usable safetensors file: {error}.", code="bundle") from error
    out: dict[str, Tensor] = {}
    for name, tensor in raw.items():
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float32)
            if not _finite(tensor):
                raise InputError(f"{where} holds values that are not numbers, in {name!r}.", code="bundle")
        out[name] = tensor
    return out


def _finite(values: Tensor) -> bool:
    """Whether all values are finite. Their sum tells it ten times as fast, unless it overflows."""
    import torch

    return bool(torch.isfinite(values.sum())) or bool(torch.isfinite(values).all())


def encode(state: Mapping[str, Tensor], where: str, metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of `state`, floating tensors as float16, keys sorted: equal states give equal bytes.

    where: what the error calls the state. metadata: what the header says beside the tensors. Raises InputError (code
    `bundle`) for values that are not finite in float16.
    """
    import torch
    from safetensors.torch import save

    out: dict[str, Tensor] = {}
    for name in sorted(state):
        tensor = state[name].detach().cpu()
        if tensor.is_floating_point():
            tensor = tensor.to(torch.float16)
            if not bool(torch.isfinite(tensor).all()):
                raise InputError(
                    f"the weights of {where} are not finite, in {name!r}; nothing was saved.",
                    "The training has diverged: lower the learning rate and resume from an earlier state.",
                    "bundle",
                )
        out[name] = tensor.contiguous().clone()  # clone: tied weights share storage, which the format refuses
    return save(out, metadata={"format": "pt", **(metadata or {})})
