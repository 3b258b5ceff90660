"""Files, read and written with care.

Reading takes regular files only: a pipe or a device that somebody put under a name could block or never end. Writing is
atomic: a temporary file beside the target, fsync, rename, fsync of the folder.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator
from io import BufferedReader
from pathlib import Path
from typing import IO, BinaryIO

from t2i.errors import InputError

TEMP_PREFIX = ".t2i-tmp-"
FRESH = 10.0  # seconds in which a temporary file may not be locked yet
STAGED_PREFIX = ".t2i-new-"
MAX_BYTES = 512 << 20  # of a file that is read whole


def explain_os_error(error: OSError) -> str:
    """The system's message alone, without a full stop: "No space left on device"."""
    return (error.strerror or str(error) or type(error).__name__).strip().rstrip(".")


def open_regular(path: Path | str) -> BufferedReader:
    """A regular file, opened for reading. Raises OSError for anything else, without waiting for a pipe's writer."""
    return os.fdopen(_open_regular(path, os.O_RDONLY), "rb")


def _open_regular(path: Path | str, flags: int) -> int:
    """A descriptor of a regular file, made where it is missing and the flags say so. Raises OSError."""
    try:
        # not to block on a pipe; what it is is asked of the open file, for the name may soon mean another
        fd = os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0), 0o666)
    except ValueError:  # a NUL in the name
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(path)) from None
    mode = os.fstat(fd).st_mode
    if stat.S_ISREG(mode):
        return fd
    os.close(fd)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    raise OSError(errno.EINVAL, "it is a pipe or a device, not a file", str(path))


def read_bytes(path: Path | str, limit: int = MAX_BYTES) -> bytes:
    """The bytes of a regular file. Raises OSError, also for a file of more than ``limit`` bytes."""
    with open_regular(path) as file:
        return read_stream(file, limit)


def hash_file(path: Path | str) -> str:
    """sha256 of a regular file, in hexadecimal digits. Raises OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_stream(file: IO[bytes], limit: int = MAX_BYTES) -> bytes:
    """What is left of an open file or pipe. Raises OSError for more than ``limit`` bytes."""
    data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it is larger than {limit >> 20} MB")
    return data


def visible_files(folder: Path) -> Iterator[Path]:
    """The files below a folder, in no order, but for hidden ones and those in hidden folders (`.train`)."""
    for path in folder.rglob("*"):
        if not any(part.startswith(".") for part in path.relative_to(folder).parts) and path.is_file():
            yield path


def fsync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power failure, if the file system supports that."""
    with contextlib.suppress(OSError):  # some network and virtual file systems cannot sync a folder
        fd = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


@contextlib.contextmanager
def atomic_file(path: Path, *, exclusive: bool = False) -> Iterator[BinaryIO]:
    """A binary file that appears at ``path``, complete, when the block ends without an exception.

    exclusive: raise FileExistsError if ``path`` exists, even if another process creates it meanwhile.
    Raises InputError (code ``output``): no space, no permission, no such folder.
    """
    try:
        with _temporary(path.parent) as (temp, file):
            yield file
            file.flush()
            os.fsync(file.fileno())
            if exclusive:
                _claim(temp, path)
            else:
                os.replace(temp, path)
        fsync_folder(path.parent)
    except FileExistsError:
        raise
    except OSError as error:
        raise InputError(
            f"cannot write {path}: {explain_os_error(error)}.",
            "Choose another place with -o, or make room there.",
            code="output",
        ) from error


@contextlib.contextmanager
def _temporary(folder: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new file in ``folder``, locked and open for writing; afterwards it is gone, unless it has got another name. Two
    signals that raise, at any time, leave nothing: its name is known before it is made, and removed in two tries."""
    path = folder / f"{TEMP_PREFIX}{secrets.token_hex(8)}"
    try:
        with path.open("xb") as file, _locked(file):  # until it has its name: see `clear_stale`
            yield path, file
    finally:
        try:
            _remove(path)
        finally:
            _remove(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError, ValueError):
        path.unlink()


def _claim(temp: Path, path: Path) -> None:
    """Move ``temp`` to ``path`` unless something is there. A hard link checks and creates in one step."""
    try:
        os.link(temp, path)
    except FileExistsError:
        raise
    except OSError:  # no hard links here: create an empty file, then replace it
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        os.replace(temp, path)
    else:
        temp.unlink()


def check_appendable(path: Path) -> None:
    """Raise OSError unless the regular file at ``path`` can be written to."""
    os.close(_open_regular(path, os.O_WRONLY | os.O_APPEND))


def clear_stale(folder: Path) -> None:
    """Remove the temporary files that killed processes have left in ``folder``: those that no process has locked."""
    try:
        import fcntl
    except ImportError:  # nothing tells whether one is in use
        return
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if not entry.name.startswith(TEMP_PREFIX) or not entry.is_file(follow_symlinks=False):
                continue
            with contextlib.suppress(OSError), open_regular(entry.path) as file:
                if time.time() - os.fstat(file.fileno()).st_mtime < FRESH:
                    continue
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(entry.path)


def read_text(path: Path, name: str = "", code: str = "input") -> str:
    """The text of a UTF-8 file, with or without a byte order mark. name: what messages call it. Raises InputError."""
    name = name or str(path)
    try:
        return read_bytes(path).decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        raise InputError(f"cannot read {name}: {explain_os_error(error)}.", code=code) from error
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not text in UTF-8.", "Save it as UTF-8.", code) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Replace the contents of ``path`` atomically. Raises InputError (code ``output``)."""
    with atomic_file(path) as file:
        file.write(data)


def staged(path: Path) -> Path:
    """Where the next contents of ``path`` wait for the file that lists them: see `write_together`."""
    return path.with_name(STAGED_PREFIX + path.name)


def write_together(files: dict[Path, bytes], index: Path) -> None:
    """Write several files that change at one moment: the rename of ``index``, which lists the others by their hashes.

    Until then the others' new bytes wait under the names of `staged`; after it they are moved to their places. A reader
    who misses what ``index`` lists at its place therefore looks there too. A kill at any time, or a full disk, leaves
    the old files or the new ones. Raises InputError (code ``output``).
    """
    assert index in files
    others = [path for path in files if path != index]
    folders = {path.parent for path in files}
    try:
        for path in others:
            path.parent.mkdir(parents=True, exist_ok=True)
            with staged(path).open("wb") as file:
                file.write(files[path])
                file.flush()
                os.fsync(file.fileno())
        for folder in folders:
            fsync_folder(folder)
        write_bytes(index, files[index])
    except (OSError, InputError) as error:
        for path in others:
            with contextlib.suppress(OSError):
                staged(path).unlink(missing_ok=True)
        raise error if isinstance(error, InputError) else unwritable(error, index.parent) from error
    try:
        for path in others:
            os.replace(staged(path), path)
    except OSError as error:
        raise unwritable(error, index.parent) from error
    for folder in folders:
        fsync_folder(folder)


def unwritable(error: OSError, place: Path) -> InputError:
    """The error for a file that the system cannot write; ``place`` is named where the system names no file."""
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else place
    what = f"cannot write {named}: {explain_os_error(error)}."
    return InputError(what, "Choose another place, or make room there.", "output")


def variant(path: Path, number: int) -> Path:
    """``path`` for 1, then name-2, name-3 …"""
    return path if number == 1 else path.with_name(f"{path.stem}-{number}{path.suffix}")


def append_line(path: Path, line: bytes, known: Callable[[IO[bytes]], bool] = lambda file: False) -> None:
    """Append one line to ``path`` atomically; other processes may append at the same time.

    An unfinished line of a killed process is ended first. known: reads the file while it is locked, and says whether
    there is nothing to append. Raises InputError (code ``output``).
    """
    assert b"\n" not in line
    try:
        fd = _open_regular(path, os.O_RDWR | os.O_APPEND | os.O_CREAT)
        with os.fdopen(fd, "a+b") as file, _locked(file):
            if known(file):
                return
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(end - 1)
                if file.read(1) != b"\n":
                    line = b"\n" + line
            file.write(line + b"\n")
            file.flush()
    except OSError as error:
        what = f"cannot write {path}: {explain_os_error(error)}."
        raise InputError(what, "Choose another place with -o, or make room there.", "output") from error


@contextlib.contextmanager
def _locked(file: IO[bytes]) -> Iterator[None]:
    """An exclusive lock on the file, where the system has one."""
    try:
        import fcntl
    except ImportError:  # not on this system; appending is nearly atomic
        yield
        return
    with contextlib.suppress(OSError):  # some network file systems have no locks
        fcntl.flock(file, fcntl.LOCK_EX)  # released when the file is closed
    yield
