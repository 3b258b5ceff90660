"""Which library's invisible watermark can be read after everyday changes: `python -m t2i.lab.watermarks FOLDER`.

Needs libraries that t2i does not depend on: `pip install invisible-watermark blind-watermark`; one that is missing is
left out of the table. A watermark is fit for use if PSNR is at least 40 dB, at least 95% of the marked pictures are
recognised after each change, and of unmarked ones fewer than one in a million.

A watermark of 32 bits is recognised by at least `NEEDED` right bits in one of two readings. Of a picture below 256
pixels, which some libraries refuse, one has a margin and one is enlarged to twice its size. An unmarked picture, whose
bits are independent of the key, is recognised with the probability `chance()`. "Crop" takes the mildest meaning: 20% of
the area is cut off.
"""

from __future__ import annotations

import argparse
import importlib
import io
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from t2i.errors import InputError
from t2i.lab.program import reports_errors
from t2i.media.images import load_image, to_pil
from t2i.world import World, WorldConfig

BITS, NEEDED = 32, 30
KEY = np.random.default_rng(50).integers(0, 2, BITS)
SMALLEST = 256  # pixels a side that every library reads
SLOW = 8  # pictures for those that take a second for each reading
LOWEST_PSNR, LOWEST_SHARE = 40.0, 0.95


@dataclass(frozen=True)
class Watermark:
    """mark: of an RGB picture, the marked one. found: whether a picture has the mark. limit: how many pictures, for
    slow libraries; None for all."""

    name: str
    mark: Callable[[Image.Image], Image.Image]
    found: Callable[[Image.Image], bool]
    limit: int | None = None


@dataclass(frozen=True)
class Survival:
    """psnr: mean over the pictures, dB. found: change -> share of the marked pictures that were recognised.
    alarms: unmarked pictures, changed or not, that were recognised; tried: how many there were."""

    psnr: float
    found: dict[str, float]
    alarms: int
    tried: int

    @property
    def fit(self) -> bool:
        """Whether the watermark passes all limits."""
        return self.psnr >= LOWEST_PSNR and min(self.found.values()) >= LOWEST_SHARE and not self.alarms


def chance() -> float:
    """The chance of a false alarm for bits that are independent of the key: two readings' binomial tails."""
    return 2 * sum(math.comb(BITS, k) for k in range(NEEDED, BITS + 1)) / 2**BITS


def unchanged(image: Image.Image, number: int) -> Image.Image:
    """The picture itself."""
    return image


def jpeg75(image: Image.Image, number: int) -> Image.Image:
    """Written as JPEG of quality 75, and read again."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=75)
    return Image.open(file).convert("RGB")


def half(image: Image.Image, number: int) -> Image.Image:
    """Half as wide and high (Lanczos)."""
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.LANCZOS)


def crop(image: Image.Image, number: int) -> Image.Image:
    """80% of the area, from a place that depends on the picture's number."""
    width, height = (round(side * math.sqrt(0.8)) for side in image.size)
    free = np.random.default_rng(number).uniform(size=2) * (image.width - width, image.height - height)
    left, top = (int(offset) for offset in free)
    return image.crop((left, top, left + width, top + height))


CHANGES: dict[str, Callable[[Image.Image, int], Image.Image]] = {
    "none": unchanged, "JPEG 75": jpeg75, "half": half, "crop": crop,
}  # fmt: skip


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio of two RGB pictures of one size in dB, infinite for equal ones."""
    error = float(np.mean((np.asarray(a, np.float64) - np.asarray(b, np.float64)) ** 2))
    return 10 * math.log10(255**2 / error) if error else math.inf


def recognised(read: Callable[[NDArray[np.uint8]], NDArray[Any]], image: Image.Image) -> bool:
    """Whether enough bits of a reading agree with the key. read: of BGR pixels (H, W, 3), its bits."""
    if min(image.size) >= SMALLEST:
        readings = [image]
    else:
        canvas = Image.new("RGB", (max(SMALLEST, image.width), max(SMALLEST, image.height)))
        canvas.paste(image)
        readings = [canvas, image.resize((2 * image.width, 2 * image.height), Image.Resampling.BICUBIC)]
    return any(int((np.asarray(read(_bgr(one)), float).round() == KEY).sum()) >= NEEDED for one in readings)


def measure(watermark: Watermark, pictures: Sequence[Image.Image]) -> Survival:
    """Mark, change and read the pictures."""
    some = pictures[: watermark.limit]
    marked = [watermark.mark(picture) for picture in some]
    found = {
        name: float(np.mean([watermark.found(change(picture, i)) for i, picture in enumerate(marked)]))
        for name, change in CHANGES.items()
    }
    alarms = sum(watermark.found(change(picture, i)) for change in CHANGES.values() for i, picture in enumerate(some))
    return Survival(float(np.mean([psnr(*pair) for pair in zip(some, marked, strict=True)])), found, alarms,
                  len(CHANGES) * len(some))  # fmt: skip


def watermarks() -> Iterator[Watermark]:
    """Those of the libraries that are installed."""
    if library := _library("imwatermark"):
        for method in ("dwtDct", "dwtDctSvd"):
            yield _imwatermark(library, method)
        library.WatermarkEncoder.loadModel()
        yield _imwatermark(library, "rivaGan")
    if library := _library("blind_watermark"):
        yield _blind_watermark(library)


def _imwatermark(library: Any, method: str) -> Watermark:
    def mark(image: Image.Image) -> Image.Image:
        encoder = library.WatermarkEncoder()
        encoder.set_watermark("bits", KEY.tolist())
        return _from_bgr(encoder.encode(_bgr(image), method))

    def read(pixels: NDArray[np.uint8]) -> NDArray[Any]:
        return np.asarray(library.WatermarkDecoder("bits", BITS).decode(pixels, method))

    limit = SLOW if method == "rivaGan" else None
    return Watermark(f"invisible-watermark, {method}", mark, lambda image: recognised(read, image), limit)


def _blind_watermark(library: Any) -> Watermark:
    library.bw_notes.close()

    def mark(image: Image.Image) -> Image.Image:
        tool = library.WaterMark(password_img=1, password_wm=1)
        tool.read_img(img=_bgr(image))
        tool.read_wm(KEY.astype(bool), mode="bit")
        return _from_bgr(np.asarray(tool.embed()).clip(0, 255).round().astype(np.uint8))

    def read(pixels: NDArray[np.uint8]) -> NDArray[Any]:
        tool = library.WaterMark(password_img=1, password_wm=1)
        return np.asarray(tool.extract(embed_img=pixels, wm_shape=BITS, mode="bit"))

    return Watermark("blind-watermark", mark, lambda image: recognised(read, image), SLOW)


def _library(name: str) -> Any:
    """The module, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        sys.stderr.write(f"{name} is not installed and is left out\n")
        return None


def _bgr(image: Image.Image) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.asarray(image)[..., ::-1])


def _from_bgr(pixels: NDArray[np.uint8]) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels[..., ::-1]))


def renders(count: int, sprites: Path | None) -> list[Image.Image]:
    """Pictures of the built-in world at 256 pixels, which no model drew. sprites: None for the drawn shapes."""
    world = World(WorldConfig(vocabulary="core" if sprites else "shapes"), sprites, resolution=256)
    return [to_pil(pixels) for pixels in world.batch(0, range(count), 256).pixels]


def table(rows: dict[str, Survival]) -> str:
    """The table of docs/provenance.md."""
    heads = ["watermark", "pictures", "PSNR, dB", *CHANGES, "false alarms", "fit"]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for name, row in rows.items():
        shares = " | ".join(f"{share:.1%}" for share in row.found.values())
        alarms = f"{row.alarms} of {row.tried} | {'yes' if row.fit else 'no'}"
        lines.append(f"| {name} | {row.tried // len(CHANGES)} | {row.psnr:.1f} | {shares} | {alarms} |")
    return "\n".join(lines)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.watermarks", description=__doc__)
    parser.add_argument("folder", type=Path, help="pictures of 256 pixels a side or more")
    parser.add_argument("--limit", type=int, default=150, help="pictures of the folder")
    parser.add_argument("--renders", type=int, default=50, help="renders of the built-in world")
    parser.add_argument("--sprites", type=Path, metavar="FOLDER", help="the sprite library; without it, drawn shapes")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    paths = sorted(path for path in args.folder.rglob("*.png"))[: args.limit]
    if not paths:
        raise InputError(f"{args.folder} holds no PNG picture.")
    pictures = [load_image(path) for path in paths] + renders(args.renders, args.sprites)
    rows = {}
    for watermark in watermarks():
        rows[watermark.name] = measure(watermark, pictures)
        sys.stderr.write(f"{watermark.name}: {rows[watermark.name]}\n")
    sys.stdout.write(f"{table(rows)}\n\nChance of a false alarm by 32 fair bits: {chance():.1e}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
