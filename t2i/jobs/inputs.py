"""Pictures that a command is given, read and checked before any model is loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.files import visible_files
from t2i.jobs.reporter import Reporter

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from t2i.media.c2pa import Signer
    from t2i.media.image_file import ImageFile, LoadedImage

MAX_PIXELS = 64_000_000  # of a picture to be made; of one that is read, too


@dataclass(frozen=True)
class SourceImage:
    """A picture that was given. tags: what the file says about itself, as `read_metadata` returns it; see also
    `read_edited`."""

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

    Raises InputError (code `image`) for a file that is no picture, and under `strict` for an animation.
    """
    return _read(reporter, path, strict)[0]


def read_edited(reporter: Reporter, path: Path, strict: bool = False) -> SourceImage:
    """As `read_source`, for a picture whose marks its successor keeps: its tags have c2pa, too, see `read_credentials`.

    Warns of Content Credentials that are broken or cannot be read here.
    """
    from t2i.media.c2pa import read_credentials

    source, file = _read(reporter, path, strict)
    claim = read_credentials(file)
    if claim is not None and claim["state"] == "Invalid":
        reporter.warn(f"the Content Credentials of {path} are broken; the new picture's record says so")
    elif claim is not None and claim["state"] == "not checked":
        reporter.warn(f"{path} has Content Credentials; what they say is lost, for t2i[c2pa] is not installed")
    return replace(source, tags={**source.tags, "c2pa": claim})


def _read(reporter: Reporter, path: Path, strict: bool) -> tuple[SourceImage, ImageFile]:
    from t2i.media.image_file import ImageFile

    _check_named(path)
    file = ImageFile.read(path)
    picture = file.decode()
    check_frames(reporter, path, picture, strict)
    return SourceImage(path, picture, file.metadata()), file


def read_square(reporter: Reporter, path: Path) -> SourceImage:
    """Read a picture of which the model sees the square in the middle; warn where that is not all of it."""
    source = read_source(reporter, path)
    if source.image.width != source.image.height:
        size = f"{source.image.width}x{source.image.height}"
        reporter.warn(f"{path} is {size}; the model sees the square in its middle")
    return source


def check_words(text: str, hint: str) -> None:
    """Raise UsageError for the name of a picture that stands where words are expected, as of a pattern for several."""
    from t2i.media.image_file import FORMATS

    if Path(text).suffix.lower() in FORMATS and Path(text).is_file():
        raise UsageError(f"{text!r} is a picture, and words are expected there.", hint)


def check_frames(reporter: Reporter, path: Path, picture: LoadedImage, strict: bool) -> None:
    """Warn of an animation, or raise InputError (code `image`) under `strict`."""
    if picture.frames > 1:
        what = f"{path} is an animation of {picture.frames} frames"
        if strict:
            raise InputError(f"{what}.", "Save one of them as a picture.", "image")
        reporter.warn(f"{what}; the first is taken")


def expand_paths(given: list[str]) -> list[tuple[Path, Path]]:
    """All pictures that are named: files, folders with everything below, patterns that the shell did not expand.

    -> [(file, its path relative to the folder it was found in)]. An empty folder, and a pattern that nothing matches,
    stand for themselves: to read them fails, as to read a damaged picture does, and does not stop the others.
    """
    import glob

    found: list[tuple[Path, Path]] = []
    for text in given:
        path = Path(text)
        named = [(path, Path(path.name))]
        if path.is_dir():
            named = [(p, p.relative_to(path)) for p in _pictures_in(path)] or named
        elif not path.exists() and glob.has_magic(text):
            matches = sorted(Path(p) for p in glob.glob(text, recursive=True))
            named = [(p, Path(p.name)) for p in matches if p.is_file()] or named
        found += named
    return list(dict.fromkeys(found))


def _pictures_in(folder: Path) -> list[Path]:
    from t2i.media.image_file import FORMATS

    return sorted(p for p in visible_files(folder) if p.suffix.lower() in FORMATS)


def _check_named(path: Path) -> None:
    """Raise InputError (code `image`) for what names no picture: see `expand_paths`."""
    import glob

    if path.is_dir() and not _pictures_in(path):
        raise InputError(f"the folder {path} holds no PNG, JPEG or WebP picture.", code="image")
    if glob.has_magic(str(path)) and not path.exists():
        raise InputError(f"no file is called like {path}.", code="image")
