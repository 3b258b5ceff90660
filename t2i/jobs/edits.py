"""`t2i sample` from pictures: --like, --blend, --text-diff, --init; and --rerank, --prior, --prior-best-of.

What they ask for is a `EditRequest`. It goes into each picture's key and record, and its `paint` takes the place of
`Pipeline.sample`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.jobs.inputs import SourceImage, read_source
from t2i.jobs.job import Job
from t2i.jobs.parsing import check_choice
from t2i.jobs.reporter import OnStep, Reporter
from t2i.jobs.settings import Dials
from t2i.prompts import check_prompt
from t2i.sampling import SampleRequest, SamplingConfig

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.jobs.runner import Runner, RunRequest
    from t2i.media.c2pa import Signer
    from t2i.pipeline import Pipeline, Samples
    from t2i.store.bundle import Bundle

PRIORS = ("diffusion", "none")
MOST = 1000  # frames, and pictures that compete for one
ANIMATIONS = ("webp", "gif")
KINDS = ("like", "blend", "text-diff", "init")


@dataclass(frozen=True)
class PictureEdit:
    """From pictures to pictures: ``kind`` is like, blend, text-diff or init; ``points`` are the shares or thetas of a
    blend or a text diff, one a frame."""

    kind: str
    sources: tuple[SourceImage, ...]
    texts: tuple[str, str] = ("", "")
    points: tuple[float, ...] = ()
    strength: float | None = None

    def facts(self, point: int) -> dict[str, Any]:
        """What of it decides a picture, for its key and record."""
        facts: dict[str, Any] = {"pictures": [source.digest for source in self.sources]}
        if self.kind == "text-diff":
            facts["texts"] = list(self.texts)
        if self.points:
            facts["at"] = self.points[point]
        if self.strength is not None:
            facts["strength"] = self.strength
        return facts

    def signer(self, signer: Signer | None) -> Signer | None:
        """The signer, if there is one, for what is made of these pictures: --init edits its picture, the others show
        theirs to the model."""
        if signer is None or self.kind == "init":
            return self.sources[0].signer(signer)
        return signer.with_inputs(*(source.file() for source in self.sources))


@dataclass
class EditRequest:
    """What these options ask for, checked. ``animate``: webp, gif or empty."""

    way: PictureEdit | None = None
    rerank: int | None = None
    prior: str | None = None
    best_of: int | None = None
    animate: str = ""
    pixels: list[Tensor] = field(default_factory=list, init=False)

    @classmethod
    def read(
        cls,
        reporter: Reporter,
        *,
        like: Path | None,
        blend: tuple[Path, Path] | None,
        text_diff: tuple[Path, str, str] | None,
        init: Path | None,
        theta: str | None,
        frames: int | None,
        strength: float | None,
        rerank: int | None,
        prior: str | None,
        best_of: int | None,
        animate: str | None,
    ) -> EditRequest:
        """Raises UsageError for options that do not go together, InputError for a picture that cannot be read."""
        given = {"--like": like, "--blend": blend, "--text-diff": text_diff, "--init": init}
        named = [name for name, value in given.items() if value is not None]
        if len(named) > 1:
            raise UsageError(f"{' and '.join(named)} do not go together.", "Use one of them.")
        for option, value, with_ in (("--theta", theta, "--text-diff"), ("--strength", strength, "a picture")):
            if value is not None and (not named or (with_ != "a picture" and named != [with_])):
                hint = "Say which: --like, --blend, --text-diff or --init."
                raise UsageError(f"{option} needs {with_}.", hint if with_ == "a picture" else f"Say {with_}.")
        moving = named in (["--blend"], ["--text-diff"])
        if frames is not None and not moving:
            raise UsageError(
                "--frames needs --blend or --text-diff.", "Write t2i sample --blend a.png b.png --frames 9"
            )
        if animate is not None:
            check_choice("animate", animate, ANIMATIONS)
            if not moving:
                raise UsageError("--animate needs --blend or --text-diff.", "Their frames become one moving picture.")
        if rerank is not None and named:
            raise UsageError(f"--rerank and {named[0]} do not go together.", "Draw more with -n and choose.")
        if prior is not None:
            check_choice("prior", prior, PRIORS)
        for option, said in (("--prior", prior), ("--prior-best-of", best_of)):
            if said is not None and named and named != ["--init"]:
                raise UsageError(f"{option} and {named[0]} do not go together.", "The picture takes the prior's place.")
        if prior == "none" and best_of is not None:
            raise UsageError("--prior none and --prior-best-of do not go together.", "Leave one of them out.")
        if text_diff is not None and text_diff[1].strip() == text_diff[2].strip():
            raise UsageError("--text-diff says the same text twice.", 'Write --text-diff cat.png "a cat" "a dog"')
        if strength is not None and not 0 <= strength <= 1:
            raise UsageError(f"--strength {strength:g} makes no sense.", "Write a number from 0 to 1.")
        if named == ["--init"] and strength == 0:
            raise UsageError("--strength 0 changes nothing.", "Write a number above 0 and at most 1.")
        way = _way(reporter, like, blend, text_diff, init, theta, frames, strength)
        return cls(way, rerank, prior if prior != "diffusion" else None, best_of, animate or "")

    @classmethod
    def of_record(cls, path: Path, settings: dict[str, Any]) -> EditRequest:
        """What a picture's record says was asked for. Raises InputError for a picture that was made from another, which
        is not in its record, ValueError for what makes no sense: a file may say anything."""
        made_from = next((kind for kind in KINDS if kind in settings), None)
        if made_from:
            what = f"{path} was made from another picture (--{made_from}) and cannot be drawn again without it."
            raise InputError(what, "Give that picture again, with the settings that `t2i info` shows.", "image")
        rerank, prior, best_of = (settings.get(name) for name in ("rerank", "prior", "prior_best_of"))
        for number in (rerank, best_of):
            if number is not None and (type(number) is not int or not 1 <= number <= MOST):
                raise ValueError("no such number")
        if prior not in (None, "none"):
            raise ValueError("no such prior")
        return cls(None, rerank, prior, best_of)

    def check(self, prompt: str | None, file: str | None, sweep: list[str] | None) -> None:
        """Raise UsageError for what a picture does not go together with."""
        if self.way is None:
            return
        option = f"--{self.way.kind}"
        if file is not None or sweep:
            other = "a prompt file" if file is not None else "--sweep"
            raise UsageError(f"{option} and {other} do not go together.", "Run it once for each.")
        if prompt is not None and self.way.kind in ("blend", "text-diff"):
            raise UsageError(f"{option} reads no prompt.", "Leave it out.")
        if prompt is not None:
            check_prompt(prompt)

    def check_model(self, bundle: Bundle) -> None:
        """Raise UsageError for what this model lacks a part for: an image encoder, or a prior."""
        manifest = bundle.manifest
        option = f"--{self.way.kind}" if self.way and self.way.kind != "init" else "--rerank" if self.rerank else ""
        if option and not manifest.of_kind("clip"):
            from t2i.pipeline import blind

            sentence, hint = blind(manifest.name)
            if option == "--rerank":
                hint = "Draw more with -n and choose, or use --model small."
            raise UsageError(f"{option} cannot be used, for {sentence}", hint)
        option = "--prior-best-of" if self.best_of else "--prior" if self.prior else ""
        if option and not manifest.of_kind("prior"):
            what = f"{option} needs a prior, and the model {manifest.name!r} has none."
            raise UsageError(what, "Leave it out: its base reads the text itself.")

    @property
    def needs_prompt(self) -> bool:
        """Whether there must be a prompt: not where a picture says it all."""
        return self.way is None or self.way.kind == "init"

    @property
    def asked(self) -> bool:
        """Whether anything differs from a plain `t2i sample`."""
        return bool(self.way or self.rerank or self.prior or self.best_of)

    def dials(self, dials: Dials, point: int = 0) -> Dials:
        """The same dials with what this asks for in the pictures' keys; those of one run are drawn together."""
        more: dict[str, Any] = {}
        if self.rerank:
            more["rerank"] = self.rerank
        if self.prior:
            more["prior"] = self.prior
        if self.best_of:
            more["prior_best_of"] = self.best_of
        if self.way is not None:
            more[self.way.kind] = self.way.facts(point)
        if not more:
            return dials
        changed = dials.with_settings(more)
        if self.way is not None and self.way.points:  # the frames differ in nothing else
            return replace(changed, group=dials.group)
        return changed

    def jobs(self, prompt: str, seeds: Sequence[int], read: Dials) -> list[Job]:
        """The pictures of a way: one a seed, or for each seed one a point. Files are called after the pictures."""
        assert self.way is not None
        stems = " ".join(source.path.stem for source in self.way.sources)
        words = " ".join([stems, *self.way.texts, prompt]) if self.way.kind != "blend" else stems
        if not self.way.points:
            dials = self.dials(read)
            return [Job(prompt, seed, i, i, dials, f"{self.way.kind} {words}") for i, seed in enumerate(seeds)]
        out: list[Job] = []
        for seed in seeds:
            for i in range(len(self.way.points)):
                name = f"{self.way.kind} {words} {i:03}"
                out.append(Job(prompt, seed, i, len(out), self.dials(read, i), name))
        return out

    def paint(self, pipeline: Pipeline, jobs: list[Job], settings: SampleRequest, on_step: OnStep) -> Samples:
        """The pictures of jobs with equal dials, by the engine."""
        settings = replace(settings, prior=self.prior or "diffusion")
        for entry in pipeline.manifest.of_kind("prior") if self.best_of else ():
            settings = settings.override(entry.name, SamplingConfig(best_of=self.best_of))
        prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
        if self.way is not None:
            return self._from_pictures(pipeline, jobs, settings, on_step)
        if not self.rerank:
            return pipeline.sample(prompts, seeds, settings, on_step=on_step)
        from t2i.edit.rerank import rerank

        return rerank(pipeline, prompts, seeds, self.rerank, settings, on_step=on_step).samples

    def _from_pictures(self, pipeline: Pipeline, jobs: list[Job], settings: SampleRequest, on_step: OnStep) -> Samples:
        from t2i.edit import vary
        from t2i.media.images import to_tensor

        way = self.way
        assert way is not None
        if not self.pixels:
            self.pixels = [to_tensor(source.image) for source in way.sources]
        prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
        if way.kind == "init":
            strength = 0.6 if way.strength is None else way.strength
            return vary.redraw(pipeline, self.pixels[0], prompts, seeds, settings, strength=strength, on_step=on_step)
        if way.kind == "like":
            strength = 1.0 if way.strength is None else way.strength
            words = prompts if prompts[0] else None
            return vary.variations(
                pipeline, self.pixels[0], seeds, settings, prompts=words, strength=strength, on_step=on_step
            )
        points = [way.points[job.n] for job in jobs]
        strength = way.strength or 0.0
        if way.kind == "blend":
            a, b = self.pixels
            return vary.blend(pipeline, a, b, points, seeds, settings, strength=strength, on_step=on_step)
        source, target = way.texts
        return vary.text_diff(
            pipeline, self.pixels[0], source, target, points, seeds, settings, strength=strength, on_step=on_step
        )

    def animation(self, reporter: Reporter, request: RunRequest, jobs: Sequence[Job], drawing: Runner) -> None:
        """Write the frames of each seed as one moving picture, and tell it like a picture."""
        if not self.animate or not drawing.paths:
            return
        from t2i.media.images import load_image, save_animation

        rows: dict[int, list[Job]] = {}
        for job in jobs:
            if job.index in drawing.paths:
                rows.setdefault(job.seed, []).append(job)
        for frames in rows.values():
            first = drawing.paths[frames[0].index]
            record = request.record(frames[0])
            record = replace(record, key=f"{record.key}.animation")
            path = first.with_name(f"{first.stem}.frames.{self.animate}")
            save_animation([load_image(drawing.paths[job.index]) for job in frames], path, record)
            reporter.picture(path, {**record.table(), "frames": len(frames)})


def _way(
    reporter: Reporter,
    like: Path | None,
    blend: tuple[Path, Path] | None,
    text_diff: tuple[Path, str, str] | None,
    init: Path | None,
    theta: str | None,
    frames: int | None,
    strength: float | None,
) -> PictureEdit | None:
    if frames is not None and not 2 <= frames <= MOST:
        raise UsageError(f"--frames {frames} makes no sense.", f"Write a number from 2 to {MOST}.")
    if blend is not None:
        count = frames or 9
        points = tuple(i / (count - 1) for i in range(count))
        return PictureEdit("blend", tuple(_square(reporter, path) for path in blend), points=points, strength=strength)
    if text_diff is not None:
        path, source, target = text_diff
        texts = check_prompt(source, "the first text of --text-diff"), check_prompt(target, "the second")
        return PictureEdit(
            "text-diff", (_square(reporter, Path(path)),), texts, parse_theta(theta or "0.25..0.5", frames), strength
        )
    if like is not None or init is not None:
        given = like if like is not None else init
        assert given is not None
        return PictureEdit("like" if like is not None else "init", (_square(reporter, given),), strength=strength)
    return None


def _square(reporter: Reporter, path: Path) -> SourceImage:
    """A picture that the model will see as a square."""
    source = read_source(reporter, path)
    if source.image.width != source.image.height:
        size = f"{source.image.width}x{source.image.height}"
        reporter.warn(f"{path} is {size}; the model sees the square in its middle")
    return source


def parse_theta(text: str, frames: int | None) -> tuple[float, ...]:
    """``0.3``, ``0.25,0.5`` or ``0.25..0.5``, in as many steps as there are frames (5 unless said). Raises
    UsageError."""
    ends = text.split("..")
    try:
        values = [float(part) for part in (ends if len(ends) == 2 else text.split(","))]
    except ValueError:
        values = [-1.0]
    if not all(0 <= value <= 1 for value in values):
        raise UsageError(f"--theta {text!r} cannot be read.", "Write 0.25..0.5, or 0.3, or 0.1,0.2; from 0 to 1.")
    if len(ends) != 2:
        return tuple(values)
    count = frames or 5
    return tuple(values[0] + (values[1] - values[0]) * i / (count - 1) for i in range(count))
