"""Pictures that a command is given, read and checked before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError
from t2i.jobs.reporter import Reporter

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from t2i.media.c2pa import Signer
    from t2i.media.image_file import LoadedImage

MAX_PIXELS = 64_000_000  # of a picture to be made; of one that is read, too


@dataclass(frozen=True)
class SourceImage:
    """A picture that was given. tags: what the file says about itself, as `read_metadata` returns it."""

    path: Path
    picture: LoadedImage
    tags: dict[str, Any]

    @property
    def image(self) -> Image:
        """Upright RGB."""
        return self.picture.image

    @cached_property
    def digest(self) -> str:
        """See `pixel_digest`."""
        from t2i.media.image_file import pixel_digest

        return pixel_digest(self.image, self.picture.alpha)

    @cached_property
    def tensor(self) -> Tensor:
        """(3, H, W) in [-1, 1]."""
        from t2i.media.images import to_tensor

        return to_tensor(self.image)

    def file(self) -> tuple[bytes, str]:
        """The file itself and its format, as Content Credentials take it. Raises InputError where it is gone."""
        from t2i.media.image_file import ImageFile

        file = ImageFile.read(self.path)
        return file.data, file.format

    def signer(self, signer: Signer | None) -> Signer | None:
        """The signer, if there is one, for a picture that is made from this one."""
        return None if signer is None else signer.with_parent(*self.file())


def read_source(reporter: Reporter, path: Path, strict: bool = False) -> SourceImage:
    """Read a picture; of an animation the first frame, with a warning.

    Raises InputError (code ``image``) for a file that is no picture, and under ``strict`` for an animation.
    """
    from t2i.media.image_file import ImageFile

    file = ImageFile.read(path)
    picture = file.decode()
    check_frames(reporter, path, picture, strict)
    return SourceImage(path, picture, file.metadata())


def read_square(reporter: Reporter, path: Path) -> SourceImage:
    """Read a picture of which the model sees the square in the middle; warn where that is not all of it."""
    source = read_source(reporter, path)
    if source.image.width != source.image.height:
        size = f"{source.image.width}x{source.image.height}"
        reporter.warn(f"{path} is {size}; the model sees the square in its middle")
    return source


def check_frames(reporter: Reporter, path: Path, picture: LoadedImage, strict: bool) -> None:
    """Warn of an animation, or raise InputError (code ``image``) under ``strict``."""
    if picture.frames > 1:
        what = f"{path} is an animation of {picture.frames} frames"
        if strict:
            raise InputError(f"{what}.", "Save one of them as a picture.", "image")
        reporter.warn(f"{what}; the first is taken")


def expand_paths(given: list[str]) -> list[tuple[Path, Path]]:
    """All pictures that are named: files, folders with everything below, patterns that the shell did not expand.

    -> [(file, its path relative to the folder it was found in)]. Raises InputError (code ``image``) for an empty folder
    or a pattern that nothing matches.
    """
    import glob

    from t2i.media.image_file import FORMATS

    found: list[tuple[Path, Path]] = []
    for text in given:
        path = Path(text)
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in FORMATS and p.is_file())
            if not inside:
                raise InputError(f"the folder {path} holds no PNG, JPEG or WebP picture.", code="image")
            found += [(p, p.relative_to(path)) for p in inside]
        elif not path.exists() and glob.has_magic(text):
            matches = sorted(Path(p) for p in glob.glob(text, recursive=True))
            if not matches:
                raise InputError(f"no file is called like {text}.", code="image")
            found += [(p, Path(p.name)) for p in matches if p.is_file()]
        else:
            found.append((path, Path(path.name)))
    return list(dict.fromkeys(found))
