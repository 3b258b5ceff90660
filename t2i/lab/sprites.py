"""Builds the sprite library from its public sources: `python -m t2i.lab.sprites --out sprites/`.

The sources are fetched with `git` and `npm` when the script runs, and only then; `--sources` keeps them for
another run or names where they already are. What comes out is `<out>/<set>/<codepoint>.webp`: 256 x 256 RGBA,
lossless, straight alpha, the variation selector U+FE0F left out of the name. Two sets are drawn from SVG,
for which CairoSVG (`pip install cairosvg`) or the program `rsvg-convert` is needed.
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from t2i.errors import InputError, UnavailableError, UsageError
from t2i.files import atomic_file
from t2i.lab.program import reports_errors
from t2i.world.vocabulary import is_shape, things

SIDE = 256
SKIN_TONES = frozenset(f"{code:x}" for code in range(0x1F3FB, 0x1F400))
Rasterise = Callable[[bytes], Image.Image]


@dataclass(frozen=True)
class Repository:
    """Pictures in a folder of a git repository at a commit, named <prefix><codepoints><suffix>."""

    url: str
    commit: str
    folder: str
    prefix: str
    suffix: str

    @property
    def name(self) -> str:
        return self.url.rsplit("/", 1)[-1]

    def fetch(self, into: Path) -> Path:
        """The checked-out folder; fetched if it is not there yet."""
        place = into / self.name
        if not (place / self.folder).is_dir() or not any((place / self.folder).glob(f"*{self.suffix}")):
            if not place.exists():
                run("git", "clone", "--filter=blob:none", "--no-checkout", self.url, str(place))
                run(
                    "git",
                    "-C",
                    str(place),
                    "sparse-checkout",
                    "set",
                    "--no-cone",
                    f"/{self.folder}/*{self.suffix}",
                )
            else:
                run("git", "-C", str(place), "sparse-checkout", "add", f"/{self.folder}/*{self.suffix}")
            run("git", "-C", str(place), "checkout", "--quiet", self.commit)
        return place / self.folder

    def pictures(self, into: Path) -> Iterator[tuple[str, bytes]]:
        for path in sorted(self.fetch(into).glob(f"{self.prefix}*{self.suffix}")):
            yield path.name.removeprefix(self.prefix).removesuffix(self.suffix), path.read_bytes()


@dataclass(frozen=True)
class Package:
    """Pictures in a folder of an npm package."""

    package: str
    version: str
    folder: str
    suffix: str

    def fetch(self, into: Path) -> Path:
        """The archive of the package; fetched if it is not there yet."""
        archive = into / f"{self.package.removeprefix('@').replace('/', '-')}-{self.version}.tgz"
        if not archive.is_file():
            run("npm", "pack", "--silent", "--pack-destination", str(into), f"{self.package}@{self.version}")
        return archive

    def pictures(self, into: Path) -> Iterator[tuple[str, bytes]]:
        with tarfile.open(self.fetch(into)) as archive:
            for member in archive:
                path = Path(member.name)
                if member.isfile() and path.parent.as_posix() == self.folder and path.name.endswith(self.suffix):
                    file = archive.extractfile(member)
                    assert file is not None, member.name
                    yield path.name.removesuffix(self.suffix), file.read()


@dataclass(frozen=True)
class Icons(Package):
    """An icon collection: a JSON of SVG bodies by name, and one of names by codepoint."""

    def pictures(self, into: Path) -> Iterator[tuple[str, bytes]]:
        tables = {}
        with tarfile.open(self.fetch(into)) as archive:
            for name in ("icons", "chars"):
                file = archive.extractfile(f"{self.folder}/{name}.json")
                assert file is not None, name
                tables[name] = json.load(file)
        icons, width, height = (tables["icons"].get(k) for k in ("icons", "width", "height"))
        for codepoints, name in tables["chars"].items():
            icon = icons.get(name)
            if icon is not None:
                box = f"0 0 {icon.get('width', width)} {icon.get('height', height)}"
                head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{box}">'
                yield codepoints, f"{head}{icon['body']}</svg>".encode()


FLUENT = "https://github.com/shuding/fluentui-emoji-unicode", "7a40f1a", "assets", ""
SETS: dict[str, tuple[Repository | Package, ...]] = {
    "fluent3d": (
        Repository(*FLUENT, "_3d.png"),
        Package("@lobehub/fluent-emoji-3d", "1.1.0", "package/assets", ".webp"),
    ),
    "fluentflat": (
        Repository(*FLUENT, "_flat.svg"),
        Icons("@iconify-json/fluent-emoji-flat", "1.2.6", "package", ".json"),
    ),
    "noto": (Repository("https://github.com/googlefonts/noto-emoji", "b3e3051", "png/512", "emoji_u", ".png"),),
    "twemoji": (Package("@discordapp/twemoji", "16.0.1", "package/dist/svg", ".svg"),),
}
"""The sources of each set, in order: what one lacks is taken from the next."""

ATTRIBUTIONS = """# Where these pictures come from

- fluent3d, fluentflat: Fluent Emoji, (c) Microsoft Corporation, MIT licence.
- noto: Noto Emoji, (c) Google, Apache-2.0 by its README, OFL-1.1 by the licence file of its repository.
- twemoji: "Twemoji, (c) Twitter, Inc and other contributors", CC-BY-4.0.

A model trained on them carries these lines in its card.
"""


def run(*command: str) -> None:
    """Run a program. Raises UnavailableError when it is missing or fails."""
    try:
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    except FileNotFoundError:
        raise UnavailableError(f"the program {command[0]!r} is not installed.", code="dependency") from None
    except subprocess.CalledProcessError as error:
        last = error.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UnavailableError(f"`{' '.join(command)}` failed: {' '.join(last)}") from error


def canonical(stem: str) -> str:
    """ "0023_fe0f_20E3" -> "23-20e3": the codepoints in one spelling, without the variation selector."""
    parts = [part.lower().lstrip("0") for part in stem.replace("_", "-").split("-")]
    return "-".join(part for part in parts if part != "fe0f")


def rasteriser() -> Rasterise:
    """A function that draws an SVG at SIDE pixels. Raises UnavailableError if no library or program here can."""
    if find_spec("cairosvg") is not None:
        svg2png = import_module("cairosvg").svg2png
        return lambda svg: _open(svg2png(bytestring=svg, output_width=SIDE, output_height=SIDE))
    if program := shutil.which("rsvg-convert"):
        command = [program, f"--width={SIDE}", f"--height={SIDE}", "--keep-aspect-ratio"]
        return lambda svg: _open(subprocess.run(command, input=svg, check=True, capture_output=True).stdout)
    raise UnavailableError("nothing here draws SVG files.", "Try: pip install cairosvg", "dependency")


def _open(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGBA")


def to_sprite(image: Image.Image) -> Image.Image:
    """Any picture as SIDE x SIDE RGBA, straight alpha, centred. Resized premultiplied by alpha: no dark rims."""
    image = image.convert("RGBA")
    if image.size == (SIDE, SIDE):
        return image
    share = SIDE / max(image.size)
    fit = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    small = image.convert("RGBa").resize(fit, Image.Resampling.LANCZOS).convert("RGBA")
    out = Image.new("RGBA", (SIDE, SIDE))
    out.paste(small, ((SIDE - fit[0]) // 2, (SIDE - fit[1]) // 2))
    return out


def build_set(
    sources: Iterable[Repository | Package], wanted: dict[str, str] | None, into: Path, out: Path,
    rasterise: Callable[[], Rasterise] = rasteriser,
) -> set[str]:  # fmt: skip
    """Convert one set into the folder `out`. Returns the canonical codepoints that it now holds.

    wanted: canonical codepoints -> file stem; None takes every emoji without a skin tone.
    Raises InputError naming the picture that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    draw: Rasterise | None = None
    done: set[str] = set()
    for source in sources:
        for stem, data in source.pictures(into):
            key = canonical(stem)
            if key in done or not _is_codepoints(key) or (wanted is not None and key not in wanted):
                continue
            if wanted is None and SKIN_TONES & set(key.split("-")):
                continue
            try:
                if data.lstrip()[:1] == b"<":
                    draw = draw or rasterise()
                    picture = to_sprite(draw(data))
                else:
                    picture = to_sprite(_open(data))
            except (UnidentifiedImageError, OSError, ValueError, subprocess.CalledProcessError) as error:
                raise InputError(f"the picture {stem!r} of {source} cannot be read.") from error
            with atomic_file(out / f"{wanted[key] if wanted else key}.webp") as file:
                picture.save(file, "WEBP", lossless=True)
            done.add(key)
        if wanted is not None and done == set(wanted):
            break
    return done


def _is_codepoints(key: str) -> bool:
    return all(part and len(part) <= 6 and set(part) <= set("0123456789abcdef") for part in key.split("-"))


def wanted_sprites() -> dict[str, str]:
    """Canonical codepoints -> file stem, of every sprite in the vocabulary."""
    return {canonical(t.sprite): t.sprite for t in things().values() if not is_shape(t)}


def build(out: Path, sets: Sequence[str], everything: bool, sources: Path) -> dict[str, tuple[int, list[str]]]:
    """Build the library. Returns for each set the number of sprites, and the sprites of the vocabulary it lacks."""
    needed = wanted_sprites()
    report = {}
    try:
        sources.mkdir(parents=True, exist_ok=True)
        for name in sets:
            done = build_set(SETS[name], None if everything else needed, sources, out / name)
            report[name] = (len(done), sorted(needed[key] for key in set(needed) - done))
        with atomic_file(out / "ATTRIBUTIONS.md") as file:
            file.write(ATTRIBUTIONS.encode())
    except OSError as error:
        raise InputError(f"cannot write {out}: {error.strerror}.", code="output") from error
    return report


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.sprites", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("sprites"), metavar="FOLDER")
    parser.add_argument("--sets", default=",".join(SETS), metavar="A,B", help=f"of {', '.join(SETS)}")
    parser.add_argument("--all", action="store_true", help="every emoji of the sources, not only the vocabulary's")
    parser.add_argument("--sources", type=Path, metavar="FOLDER", help="where the sources are kept or already lie")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    sets = args.sets.split(",")
    if unknown := [name for name in sets if name not in SETS]:
        raise UsageError(f"there is no set {unknown[0]!r}.", f"Sets are {', '.join(SETS)}.")
    with tempfile.TemporaryDirectory() as scratch:
        report = build(args.out, sets, args.all, args.sources or Path(scratch))
    lacking = False
    for name, (count, missing) in report.items():
        lacking |= bool(missing)
        tail = f", lacks {len(missing)} of the vocabulary: {' '.join(missing)}" if missing else ""
        sys.stdout.write(f"{args.out / name}: {count} sprites{tail}\n")
    if lacking:
        raise InputError("the library is incomplete.", "A style that lacks a sprite cannot draw its thing.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
