"""From the checked request of `t2i upscale` to files, one picture after the other."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.batching import out_of_memory
from t2i.errors import InputError, T2IError, UnavailableError
from t2i.jobs.device import pick_device
from t2i.jobs.inputs import MOST, SourceImage, read_source
from t2i.jobs.job import content_key
from t2i.jobs.manifests import Manifests
from t2i.jobs.output_index import OutputIndex
from t2i.jobs.output_paths import make_folder
from t2i.jobs.reporter import Reporter, Stopped, shorten
from t2i.media.record import Record, carried, edited_source_type

if TYPE_CHECKING:
    from t2i.edit.upscaling import Upscaled
    from t2i.media.c2pa import Signer
    from t2i.pipeline import Pipeline
    from t2i.store.bundle import Bundle


@dataclass(frozen=True)
class UpscaleRequest:
    """A checked request. Either `to`, the longer side in pixels, or `scale` is given; gate: whether the share of the
    model's detail is measured; sharp: the bundle's manifest is the one with the sharp upsamplers in it."""

    bundle: Bundle
    folder: Path
    to: int | None
    scale: float | None
    prompt: str
    seed: int
    steps: dict[str, int]
    tile: int
    gate: bool
    dtype: str
    overwrite: bool
    strict: bool
    private: bool
    signer: Signer | None
    sharp: bool = False

    @property
    def reads_text(self) -> bool:
        """Whether an upsampler of the model reads the prompt."""
        stages = self.bundle.manifest.of_kind("upsampler")
        return any(self.bundle.configs[e.name]["widths"].get("text_dim") for e in stages)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Width and height of what is made of a picture. Raises InputError for too many pixels."""
        factor = self.scale if self.scale is not None else (self.to or 0) / max(width, height)
        wide, high = max(1, round(width * factor)), max(1, round(height * factor))
        if wide * high > MOST:
            what = f"enlarged it would have {wide * high / 1e6:.0f} megapixels; at most 64 are made."
            raise InputError(what, "Ask for less.", "image")
        stages = self.bundle.manifest.of_kind("upsampler")
        each = max(self.bundle.configs[e.name]["net"]["scale"] for e in stages) if stages else 1
        uses = max(0, math.ceil(math.log(factor, each) - 1e-9)) if factor > 1 and each > 1 else 0
        if width * height * each ** (2 * uses) > 4 * MOST:
            what = f"on its way it would have {width * height * each ** (2 * uses) / 1e6:.0f} megapixels."
            raise InputError(
                what, f"Ask for a scale of {each ** max(uses - 1, 0)} at most, or a smaller picture.", "image"
            )
        return wide, high

    def record(self, source: SourceImage, size: tuple[int, int]) -> Record:
        """What the picture made of `source` will say about itself."""
        manifest, marks = self.bundle.manifest, source.marks
        stages = {
            e.name: {"steps": self.steps.get(e.name, e.defaults.steps), "sampler": e.defaults.sampler}
            for e in manifest.of_kind("upsampler")
        }
        settings = {
            "size": list(size),
            "dtype": self.dtype,
            "stages": stages,
            "upscale": {"picture": source.digest, "measured": self.gate},
        }
        ours = marks.get("t2i") or {}
        prompt = self.prompt or str(ours.get("prompt") or "")
        return Record(
            key=content_key(self.bundle.digest, prompt, "", self.seed, settings),
            command="upscale",
            prompt=prompt,
            seed=self.seed,
            model=manifest.name,
            weights=self.bundle.digest,
            size=size,
            settings=settings,
            source_type=edited_source_type(marks, "upscale"),
            private=self.private,
            files={entry.name: manifest.digest(entry) for entry in manifest.of_kind("upsampler")},
            source=carried(marks),
            signer=source.signer(self.signer),
        )


class Enlarging:
    """One run. Raises InputError (code ``partial``) when a picture failed, Stopped after a signal."""

    def __init__(self, reporter: Reporter, plan: UpscaleRequest, files: list[tuple[Path, Path]], device: str) -> None:
        self.reporter, self.plan, self.files, self.device = reporter, plan, files, device
        self.pipeline: Pipeline | None = None
        self._shelf, self._manifests = OutputIndex(reporter.warn), Manifests()
        self._mine: set[Path] = set()

    def run(self) -> None:
        """All of it."""
        started, made = time.monotonic(), 0
        first: T2IError | None = None
        for index, (path, below) in enumerate(self.files):
            try:
                with self.reporter.finishing(str(path)) as signals:
                    made += self._one(path, below, index)
            except UnavailableError:
                raise  # no device, no memory: the next picture would fail in the same way
            except T2IError as error:
                if error.code == "output":
                    raise
                self.reporter.failed += 1
                named = _named(error, path)
                first = first or named
                if len(self.files) > 1:
                    self.reporter.fail(named)
            if signals:
                raise Stopped(signals[0])
        if made:
            self.reporter.note(f"{made} picture{'s' * (made > 1)} in {time.monotonic() - started:.1f} s")
        if first is not None:
            if len(self.files) == 1:
                raise first
            what = f"{self.reporter.failed} of {len(self.files)} pictures failed; the first: {first.message}"
            raise InputError(what, first.hint, "partial")

    def _one(self, path: Path, below: Path, index: int) -> int:
        """Enlarge a picture, unless it is there; -> how many were made."""
        source = read_source(self.reporter, path, self.plan.strict)
        size = self.plan.size(*source.image.size)
        record = self.plan.record(source, size)
        target = self.plan.folder / below
        if not self.plan.overwrite:
            found = self._shelf.find(target, record.key)
            if found is not None:
                self._manifests.add(*found)
                self.reporter.picture(found[0], {**found[1], "skipped": True})
                return 0
        what = f"picture {index + 1} of {len(self.files)}"
        with self.reporter.progress(what, index, len(self.files)) as on_step:
            done = self._enlarge(source, size, on_step)
        written, ours = self._write(target, path, source, done, record)
        told = {**record.table(), "skipped": not ours, "detail": round(done.share, 3)}
        self._manifests.add(written, record.table())
        self.reporter.note(f"{shorten(str(path))}: {_said(done)}")
        self.reporter.picture(written, told)
        return 1

    def _enlarge(self, source: SourceImage, size: tuple[int, int], on_step: Any) -> Upscaled:
        from t2i.edit.upscaling import upscale
        from t2i.media.images import to_tensor
        from t2i.pipeline import Pipeline
        from t2i.sampling import SampleRequest, by_stage

        plan = self.plan
        if self.pipeline is None:
            device = pick_device(self.device)
            self.pipeline = Pipeline.load(plan.bundle.path, device=device, dtype=plan.dtype, sharp=plan.sharp)
        image, settings = to_tensor(source.image), SampleRequest(stages=by_stage(steps=plan.steps))
        try:
            return upscale(
                self.pipeline,
                image,
                (size[1], size[0]),
                plan.seed,
                settings,
                prompt=plan.prompt if plan.reads_text else None,
                tile=plan.tile,
                gate=plan.gate,
                on_step=on_step,
            )
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            what = f"there is not enough memory to enlarge {source.path}."
            raise UnavailableError(what, "Ask for less, or try a smaller --tile.", "memory") from error

    def _write(
        self, target: Path, path: Path, source: SourceImage, done: Upscaled, record: Record
    ) -> tuple[Path, bool]:
        """Save under `target`, or the first free name after it; never over the picture itself. Where another run has
        made the same picture meanwhile, that one is taken, and the second value is False."""
        from t2i.media.images import save_image, to_pil

        make_folder(target.parent)
        image, icc = to_pil(done.image), source.picture.icc
        if self.plan.overwrite:
            from t2i.jobs.output_paths import variants

            free = (p for p in variants(target) if p not in self._mine and not _same(p, path))
            target = next(free)
            self._mine.add(target)
            save_image(image, target, record, icc=icc)
            return target, True
        while True:
            name = self._shelf.free(target)
            try:
                save_image(image, name, record, exclusive=True, icc=icc)
                self._shelf.put(target, name, record.key)
                return name, True
            except FileExistsError:
                found = self._shelf.find(target, record.key)
                if found is not None:
                    return found[0], False


def _same(a: Path, b: Path) -> bool:
    return a.exists() and a.samefile(b)


def _named(error: T2IError, path: Path) -> T2IError:
    """The error with the file in it, for where there are many."""
    if str(path) in error.message:
        return error
    return type(error)(f"{path}: {error.message}", error.hint, error.code)


def _said(done: Upscaled) -> str:
    if not done.factors:
        return "nothing to enlarge; resized by Lanczos"
    if done.share < 0.02:
        return "the model's detail did not beat Lanczos on it, so this is Lanczos"
    return f"{done.share:.0%} of the model's detail kept, measured on the picture itself"
