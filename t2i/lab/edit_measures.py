"""Measures the editing commands on held-out scenes of the built-in world.

    python -m t2i.lab.edit_measures repaint --sprites sprites/    objects removed and replaced, by the judge
    python -m t2i.lab.edit_measures upscale --sprites sprites/    PSNR, SSIM and GMSD against Lanczos, and the seams
    python -m t2i.lab.edit_measures photos [picture.jpg ...]      the same on other pictures, made smaller

Without files, `photos` takes the photograph that textual-image ships, if it is installed (extra `terminal`: Grace
Hopper, 517x606), and synthetic pictures with the 1/f spectrum of photographs. Prints a Markdown table: measure, mean,
95% interval over pictures, number of pictures.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.inpaint import inpaint
from t2i.edit.masks import bounds, grow
from t2i.edit.upscaling import upscale
from t2i.engine import PromptBatch
from t2i.errors import UsageError
from t2i.lab.program import positive, reports_errors
from t2i.media.images import lanczos, load_image, resize, to_tensor
from t2i.pipeline import Pipeline
from t2i.score.pixel_metrics import psnr, ssim
from t2i.score.statistics import Interval, interval, share_interval
from t2i.store.registry import resolve, resolve_judge
from t2i.world import World, WorldConfig
from t2i.world.captions.english import article
from t2i.world.captions.phrases import EMPTY
from t2i.world.fidelity import luma
from t2i.world.judge import Judge
from t2i.world.sprites import LIBRARY

PLACES = ("snow", "beach", "forest", "desert", "night", "city", "room", "sunset", "mountains", "field", "sky", "garden")
SEED = 90_001  # scenes that no recipe draws
SCENES = {"repaint": 40, "upscale": 12, "photos": 8}
"""Number of scenes (of synthetic pictures for `photos`): about two minutes each on two CPU cores."""


@dataclass(frozen=True)
class Task:
    """The model and the pictures of a measurement. n: number of scenes."""

    pipeline: Pipeline
    world: World | None
    judge: Judge | None
    n: int
    pictures: tuple[Path, ...]


def single_objects(sprites: Path) -> World:
    """Scenes of one object in its natural colours, with the layout of the shipped recipe."""
    config = WorldConfig(
        groups=(1, 0, 0, 0), counts=(1, 0, 0, 0), places=PLACES, flip=0, angle=0, jitter=0.02, scale=(0.56, 0.68),
        chance=0.8, colour=0, size=0, position=0, say_place=1, chinese=0, side="any",
    )  # fmt: skip
    return World(config, sprites=sprites, resolution=256)


def repaint(task: Task) -> None:
    """Inpaint the object's bounding box, grown by 2 pixels: remove it (with and without a prompt), replace it."""
    world, judge = task.world, task.judge
    assert world is not None and judge is not None
    gone: list[float] = []
    gone_plain: list[float] = []
    there: list[float] = []
    keys = [key for key in world.keys if key in judge.config.things]
    for i in range(task.n):
        batch = world.batch(SEED, [i], 64, masks=True)
        assert batch.masks is not None
        thing, place = batch.scenes[0].groups[0].thing, batch.scenes[0].place
        image, b = batch.pixels[0], bounds((batch.masks[0].amax(0) > 0.5).float()[None])
        hole = torch.zeros(1, 64, 64)
        hole[b.slices] = 1
        hole = grow(hole, 2)
        if float(hole.mean()) > 0.98:
            continue
        other = keys[(i * 7 + 3) % len(keys)]
        other = keys[(i * 7 + 4) % len(keys)] if other == thing else other
        words = [f"an empty {EMPTY[place][0][0]}", f"{article(world.things[other].en)} in the {place}"]
        made = inpaint(task.pipeline, image, hole, PromptBatch(words, [i, i]))
        plain = inpaint(task.pipeline, image, hole, PromptBatch([""], [i]))
        seen = [[found.thing for found in reading.objects] for reading in judge.read(torch.cat([made, plain]))]
        gone.append(float(thing not in seen[0]))
        there.append(float(other in seen[1]))
        gone_plain.append(float(thing not in seen[2]))
        note(f"  {i} {thing} in {place}, to {other}: {seen}")
    tell('removed by "an empty ..."', gone)
    tell("removed without a prompt", gone_plain)
    tell("replaced by another object", there)


def enlarge(task: Task) -> None:
    """Held-out renders of 256 pixels, enlarged from 64: `t2i upscale` and `--trust` against Lanczos, and the seams."""
    assert task.world is not None
    truths = [task.world.draw([task.world.scene(SEED, i)], 256)[0][0] for i in range(task.n)]
    _against_lanczos(task.pipeline, "renders", truths)
    seams = [seam(task.pipeline, truth) for truth in truths]
    tell("gradient across tile borders / elsewhere, over the same of one piece: farthest from 1", [max(seams, key=off)])


def photos(task: Task) -> None:
    """Other pictures (at most their central 512 pixels), gradients and flat colours, reduced four times by area."""
    paths = task.pictures or shipped_photographs()
    if paths:
        truths = []
        for path in paths:
            whole = to_tensor(load_image(path))
            side = min(512, whole.shape[1] // 4 * 4, whole.shape[2] // 4 * 4)
            top, left = (whole.shape[1] - side) // 2, (whole.shape[2] - side) // 2
            truths.append(whole[:, top : top + side, left : left + side])
        _against_lanczos(task.pipeline, "pictures" if task.pictures else "photograph", truths)
    else:
        note("there is no photograph here; pip install 't2i[terminal]' brings one")
    if not task.pictures:
        _against_lanczos(task.pipeline, "1/f by code", [clouds(256, seed) for seed in range(task.n)])
    _against_lanczos(task.pipeline, "gradients", gradients(256))
    flat = [torch.tensor(colour).view(3, 1, 1).expand(3, 64, 64) for colour in FLAT]
    off = [float((upscale(task.pipeline, c, (256, 256)).image - c[:, :1, :1]).abs().max()) * 127.5 for c in flat]
    tell("flat colour: largest difference, of 1/255", off)


FLAT = ((-1.0, -1.0, -1.0), (1.0, 1.0, 1.0), (0.1, 0.1, 0.1), (0.9, -0.8, -0.7), (-0.6, 0.2, 0.9))


def shipped_photographs() -> tuple[Path, ...]:
    """Public-domain photographs that an installed dependency ships."""
    found = importlib.util.find_spec("textual_image")
    path = Path(found.origin).with_name("gracehopper.jpg") if found and found.origin else None
    return (path,) if path and path.is_file() else ()


def gradients(size: int) -> list[Tensor]:
    """(3, S, S) in [-1, 1]: a horizontal, a diagonal and a circular ramp, and slow waves."""
    axis = torch.linspace(-1, 1, size)
    ramp = axis.expand(3, size, size) * torch.tensor([1.0, 0.5, -0.7]).view(3, 1, 1)
    round_ = (axis[None, :].square() + axis[:, None].square()).sqrt().clamp(max=1).expand(3, size, size) * 1.6 - 0.8
    waves = torch.sin(4.5 * (axis + 1)).expand(3, size, size) * 0.8
    return [ramp, (ramp + ramp.transpose(1, 2)) / 2, round_, waves]


def clouds(size: int, seed: int) -> Tensor:
    """(3, S, S) in [-1, 1]: noise with the 1/f amplitude spectrum of photographs (Field 1987) and correlated
    colours."""
    g = torch.Generator().manual_seed(seed)
    white = torch.randn(3, size, size, generator=g)
    white = torch.tensor([[0.9, 0.3, 0.3], [0.8, -0.1, 0.3], [0.7, 0.1, -0.6]]) @ white.flatten(1)
    f = torch.fft.fftfreq(size)
    far = (f[:, None].square() + f[None, :].square()).sqrt().clamp_min(1 / size)
    made = torch.fft.ifft2(torch.fft.fft2(white.view(3, size, size)) / far).real
    return (made / made.std() * 0.4).clamp(-1, 1)


def _against_lanczos(pipeline: Pipeline, what: str, truths: Sequence[Tensor]) -> None:
    metrics: dict[str, Callable[[Tensor, Tensor], float]] = {"PSNR, dB": capped_psnr, "SSIM": luma_ssim, "GMSD": gmsd}
    rows: dict[str, list[float]] = {}
    gains: list[float] = []
    for i, truth in enumerate(truths):
        height, width = truth.shape[1:]
        low = resize(truth[None], height // 4, width // 4)[0]
        plain = lanczos(low, height, width).clamp(-1, 1)
        measured, trusted = (upscale(pipeline, low, (height, width), gate=gate) for gate in (True, False))
        for name, metric in metrics.items():
            for label, picture in (("Lanczos", plain), ("t2i", measured.image), ("t2i --trust", trusted.image)):
                rows.setdefault(f"{what}: {name}, {label}", []).append(metric(picture, truth))
        rows.setdefault(f"{what}: share of the detail kept", []).append(measured.share)
        gains.append(capped_psnr(measured.image, truth) - capped_psnr(plain, truth))
        note(f"  {i}: {gains[-1]:+.2f} dB, share_interval {measured.share:.2f}")
    for name, values in rows.items():
        tell(name, values)
    tell(f"{what}: gain over Lanczos, dB", gains)
    tell(f"{what}: worst gain, dB", [min(gains)])


def seam(pipeline: Pipeline, truth: Tensor) -> float:
    """How visible the borders of tiles are: `step_at` of a picture enlarged in small tiles, over that in one piece.

    1: no visible seams. Dividing by the picture in one piece cancels the picture's own edges.
    """
    stage = pipeline.stages[pipeline.manifest.of_kind("upsampler")[0].name]
    scale, core = int(stage.config.scale), 8
    low = resize(truth[None], truth.shape[1] // 4, truth.shape[2] // 4)[0]
    size = (low.shape[1] * scale, low.shape[2] * scale)
    tiles, whole = (
        upscale(pipeline, low, size, tile=tile, gate=False).image for tile in (2 * stage.config.reach + core, max(size))
    )
    return step_at(tiles, core * scale, scale) / step_at(whole, core * scale, scale)


def off(ratio: float) -> float:
    return abs(ratio - 1)


def step_at(image: Tensor, every: int, scale: int) -> float:
    """Mean difference of neighbouring columns at multiples of `every`, over that at other multiples of `scale`."""
    across = (image[..., 1:] - image[..., :-1]).abs().mean(tuple(range(image.ndim - 1)))
    at = torch.arange(1, len(across) + 1)
    border, like = at % every == 0, at % scale == 0
    return float(across[border].mean() / across[like & ~border].mean())


def capped_psnr(x: Tensor, y: Tensor) -> float:
    """PSNR in dB of two pictures (3, H, W) in [-1, 1], at most 100 so that a mean of several stays finite."""
    return min(100.0, float(psnr(x[None], y[None])))


def luma_ssim(x: Tensor, y: Tensor) -> float:
    """SSIM of the lumas, in [0, 1], of two pictures (3, H, W) in [-1, 1]."""
    return float(ssim(grey(x), grey(y), data_range=1.0))


def gmsd(a: Tensor, b: Tensor) -> float:
    """Gradient magnitude similarity deviation of luma, lower is better (Xue et al. 2014, 1308.3052).

    Prewitt gradients of the pictures at half size, (3, H, W) in [-1, 1].
    """
    x, y = (F.avg_pool2d(grey(v), 2) for v in (a, b))
    across = torch.tensor([[1.0, 0, -1]] * 3).view(1, 1, 3, 3) / 3

    def magnitude(v: Tensor) -> Tensor:
        return (F.conv2d(v, across).square() + F.conv2d(v, across.transpose(2, 3)).square()).sqrt()

    mx, my, c = magnitude(x), magnitude(y), 170 / 255**2
    return float(((2 * mx * my + c) / (mx * mx + my * my + c)).std(correction=0))


def iou(a: Tensor, b: Tensor) -> float:
    """Intersection over union of two boolean masks."""
    return float((a & b).sum() / (a | b).sum().clamp_min(1))


def tell_head() -> None:
    """Print the head of the table whose rows `tell` prints."""
    sys.stdout.write("| measure | mean | 95% interval | n |\n|---|---|---|---|\n")


def tell(name: str, values: Sequence[float]) -> None:
    """Print one row of the table: the mean and its 95% interval over pictures, clipped for shares."""
    m: Interval = (share_interval if all(0 <= value <= 1 for value in values) else interval)(values)
    ends = f"{m.low:.3f} to {m.high:.3f}" if math.isfinite(m.low) and m.n > 1 else ""
    sys.stdout.write(f"| {name} | {m.mean:.3f} | {ends} | {m.n} |\n")
    sys.stdout.flush()


def note(text: str) -> None:
    """Print a line of progress."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def grey(picture: Tensor) -> Tensor:
    """The luma of a picture, (3, H, W) in [-1, 1], as one: (1, 1, H, W) in [0, 1]."""
    return luma((picture + 1) / 2)[None, None]


TASKS: dict[str, Callable[[Task], None]] = {"repaint": repaint, "upscale": enlarge, "photos": photos}


def build_parser() -> argparse.ArgumentParser:
    """The options of this program."""
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.edit_measures", description=__doc__)
    parser.add_argument("what", choices=list(TASKS))
    parser.add_argument("pictures", nargs="*", type=Path, help="for photos: PNG, JPEG or WebP files")
    parser.add_argument("--sprites", type=Path, help="the sprite library that the scenes are drawn from")
    parser.add_argument("--model", default="small")
    sizes = ", ".join(f"{name} {n}" for name, n in SCENES.items())
    parser.add_argument("-n", type=positive, help=f"how many scenes, or pictures by code [default: {sizes}]")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = build_parser().parse_args(argv)
    if args.what != "photos" and args.sprites is None:
        raise UsageError(f"{args.what} needs the sprite library.", LIBRARY)
    world = single_objects(args.sprites) if args.sprites else None
    judge = Judge.load(resolve_judge()) if args.what == "repaint" else None
    n = args.n or SCENES[args.what]
    task = Task(Pipeline.load(resolve(args.model)), world, judge, n, tuple(args.pictures))
    tell_head()
    with torch.no_grad():
        TASKS[args.what](task)
    return 0


if __name__ == "__main__":
    sys.exit(main())
