"""Which pictures a run is drawing, told to other runs into the same folder, so that they draw others."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

LOCK = ".t2i-lock"


class Claims:
    """A claim is a lock on one byte of the file `LOCK` in the picture's folder, at an offset hashed from name and key.

    So a folder needs one file for any number of pictures, where the library filelock would leave one for each, and the
    system takes the claims of a process back however it ends. Where there are no locks everything can be claimed; two
    runs may then draw a picture twice, and keep one. (The locks are POSIX's, which belong to a process: two runs in
    threads of one do not exclude each other.)
    """

    def __init__(self, wanted: bool = True) -> None:
        self.wanted = wanted
        self._files: dict[Path, int] = {}  # folder -> its LOCK, open
        self._held: set[tuple[Path, int]] = set()

    def take(self, path: Path, key: str, wait: bool = False) -> bool:
        """Claim the picture with `key` under `path`; False if another run has. wait: until that run is done."""
        place = path.parent, _offset(path.name, key)
        if not self.wanted or place in self._held:
            return True
        try:
            import fcntl

            while True:
                file = self._open(path.parent)
                fcntl.lockf(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB), 1, place[1])
                if _is_at(file, path.parent / LOCK):
                    self._held.add(place)
                    return True
                os.close(self._files.pop(path.parent))  # a run that ended has removed it
        except (BlockingIOError, PermissionError):
            return False
        except (ImportError, OSError):  # no locks on this system, or on this file system
            return True

    def release(self) -> None:
        """Let go of all claims."""
        for folder, start in self._held:
            with contextlib.suppress(OSError):
                import fcntl

                fcntl.lockf(self._files[folder], fcntl.LOCK_UN, 1, start)
        self._held.clear()

    def close(self) -> None:
        """Let go of all claims, and remove the files that no other run uses. Where a signal broke it off, the next call
        goes on."""
        self.release()
        for folder, file in list(self._files.items()):
            with contextlib.suppress(ImportError, OSError):
                import fcntl

                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # all of it: nobody has a claim
                if _is_at(file, folder / LOCK):
                    (folder / LOCK).unlink()
            with contextlib.suppress(OSError):
                os.close(file)
            del self._files[folder]

    def _open(self, folder: Path) -> int:
        if folder not in self._files:
            flags = os.O_RDWR | os.O_CREAT | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC
            self._files[folder] = os.open(folder / LOCK, flags, 0o666)
        return self._files[folder]


def _offset(name: str, key: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{name}\0{key}".encode(errors="surrogateescape")).digest()[:7], "big")


def _is_at(file: int, path: Path) -> bool:
    """Whether an open file is the one at `path`."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
