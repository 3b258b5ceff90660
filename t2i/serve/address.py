"""Where a server listens: a socket in a folder that only its user can enter, or a port of this machine."""

from __future__ import annotations

import os
import re
import secrets
import shlex
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from t2i.errors import InputError, UnavailableError, UsageError
from t2i.files import explain_os_error, read_text
from t2i.store.search_path import home

VARIABLE = "T2I_SERVER"
"""The environment variable that names a server for `t2i sample`."""

LOOPBACK = "127.0.0.1"
MAX_PATH = 100  # bytes of a socket's path; the system takes about 107


@dataclass(frozen=True)
class Address:
    """path: of a socket; or port: of the loopback interface."""

    path: Path | None = None
    port: int = 0

    @classmethod
    def parse(cls, text: str) -> Address:
        """A path, a port, or 127.0.0.1:PORT. Raises UsageError."""
        found = re.fullmatch(r"(?:(?:127\.0\.0\.1|localhost):)?(\d{1,5})", text)
        if found:
            return cls(port=check_port(int(found[1])))
        if not text or "\0" in text:
            raise UsageError(f"{text!r} names no server.", "Write the path of its socket, or its port.")
        return cls(Path(text).expanduser().absolute())

    @classmethod
    def default(cls) -> Address:
        """A socket in this user's own folder."""
        return cls(folder() / "t2i.sock")

    def __str__(self) -> str:
        return str(self.path) if self.path else f"{LOOPBACK}:{self.port}"

    def connect(self, patience: float) -> socket.socket:
        """A connection, made within `patience` seconds. Raises OSError, InputError for another user's socket."""
        family = socket.AF_UNIX if self.path else socket.AF_INET
        link = socket.socket(family, socket.SOCK_STREAM)
        try:
            link.settimeout(patience)
            if self.path:
                check_own(self.path)
                link.connect(os.fspath(self.path))
            else:
                link.connect((LOOPBACK, self.port))
        except BaseException:
            link.close()
            raise
        return link

    def token(self) -> str:
        """What the server on a port wants to hear: in a file that only its user can read. "" for a socket.

        Raises InputError where there is none.
        """
        return "" if self.path else read_text(_token_file(self.port)).strip()


def check_port(port: int) -> int:
    """Return it. Raises UsageError for one that does not exist."""
    if not 0 <= port < 2**16:
        raise UsageError(f"there is no port {port}.", "Write a number from 1024 to 65535, or 0 for any that is free.")
    return port


def folder() -> Path:
    """The folder of this user's servers. It need not exist."""
    return home() / "serve"


def _token_file(port: int) -> Path:
    return folder() / f"port-{port}.token"


def check_own(path: Path) -> None:
    """Raise OSError where nothing is there, InputError for what is no socket of this user's."""
    facts = path.lstat()
    if not stat.S_ISSOCK(facts.st_mode):
        raise InputError(f"{path} is not a socket.", "Name another file.", "output")
    if facts.st_uid != os.geteuid():
        raise InputError(f"{path} belongs to another user.", "Name another file.", "output")


def make_private(place: Path) -> None:
    """Make a folder that only this user can enter. Raises InputError (code `output`) for one that others can."""
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        facts = place.stat()
    except OSError as error:
        what = f"cannot make the folder {place}: {explain_os_error(error)}."
        raise InputError(what, "Choose another place with --socket.", "output") from error
    if facts.st_uid != os.geteuid() or facts.st_mode & 0o077:
        what = f"others can enter the folder {place}."
        raise InputError(what, f"chmod 700 {shlex.quote(str(place))}, or choose another with --socket.", "output")


@contextmanager
def listening(address: Address) -> Iterator[tuple[Address, socket.socket, str]]:
    """(the address with its port, the socket that listens, the token), until the block ends; files are removed then.

    A lock beside the socket tells a server that runs from one that was killed, whose socket is removed. Raises
    InputError (code `output`) for a place that is not private or cannot be used, UnavailableError where a server is
    there already.
    """
    with _socket_of(address) if address.path else _port_of(address) as (at, listener, token):
        yield at, listener, token


@contextmanager
def _socket_of(address: Address) -> Iterator[tuple[Address, socket.socket, str]]:
    path = address.path
    assert path is not None
    if len(os.fsencode(path)) > MAX_PATH:
        what = f"the path of a socket has at most {MAX_PATH} bytes, and {path} has more."
        raise InputError(what, "Choose a shorter one with --socket.", "output")
    make_private(path.parent)
    with _lock(path.with_name(path.name + ".lock"), path):
        try:
            with suppress(FileNotFoundError):
                check_own(path)
                path.unlink()  # of a server that was killed: else its lock would be held
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            before = os.umask(0o177)
            try:
                listener.bind(os.fspath(path))
            finally:
                os.umask(before)
            listener.listen(64)
        except OSError as error:
            what = f"cannot listen at {path}: {explain_os_error(error)}."
            raise InputError(what, "Choose another place with --socket.", "output") from error
        try:
            yield address, listener, ""
        finally:
            listener.close()
            path.unlink(missing_ok=True)


@contextmanager
def _lock(path: Path, what: Path) -> Iterator[None]:
    """Hold the lock at `path`; the system lets go of it however the process ends."""
    import fcntl

    try:
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        said = f"cannot listen at {what}: {explain_os_error(error)}."
        raise InputError(said, "Choose another place with --socket.", "output") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        hint = f"Use it with {VARIABLE}={shlex.quote(str(what))}, or choose another --socket."
        raise UnavailableError(f"a server is listening at {what} already.", hint) from None
    try:
        yield
    finally:
        os.close(file)  # the file stays: removed, another server could lock a file that nobody sees


@contextmanager
def _port_of(address: Address) -> Iterator[tuple[Address, socket.socket, str]]:
    make_private(folder())
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((LOOPBACK, address.port))
        listener.listen(64)
    except OSError as error:
        listener.close()
        hint = "Choose another with --port."
        raise UnavailableError(f"cannot listen at {address}: {explain_os_error(error)}.", hint) from error
    at, token = Address(port=listener.getsockname()[1]), secrets.token_hex(32)
    file = _token_file(at.port)
    try:
        file.unlink(missing_ok=True)  # of a server that was killed
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w") as out:
            out.write(token + "\n")
        yield at, listener, token
    finally:
        listener.close()
        file.unlink(missing_ok=True)
