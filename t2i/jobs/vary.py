"""The edit of `t2i vary`: variations of a picture, blends of two, and text diffs (DALL-E 2, section 3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.engine import OnStep
from t2i.errors import UsageError
from t2i.jobs.edits import check_sees, check_strength
from t2i.jobs.inputs import SourceImage, check_words, read_square
from t2i.jobs.job import Job, batch_of
from t2i.jobs.reporter import Reporter
from t2i.jobs.request import DrawRequest
from t2i.jobs.settings import Settings
from t2i.prompts import check_prompt
from t2i.store.bundle import Bundle

if TYPE_CHECKING:
    from t2i.engine import Engine, Samples
    from t2i.media.c2pa import Signer
    from t2i.sampling import SampleRequest
    from t2i.store.models import StoredModel

MAX_FRAMES = 1000
FRAMES = {"blend": 9, "text-diff": 5}
THETA = "0.25..0.5"  # the paper's range


@dataclass(frozen=True)
class VaryEdit:
    """What is to be made of pictures.

    mode: "like" (variations), "blend" or "text-diff"; sources: the pictures, two for a blend; texts: what a text diff
    moves from and to; points: for each frame the share of the way (blend) or theta (text diff), in [0, 1], none for
    variations; strength: how much of the noise is each seed's own, in [0, 1], the rest is the picture's.
    """

    mode: str
    sources: tuple[SourceImage, ...]
    texts: tuple[str, str] = ("", "")
    points: tuple[float, ...] = ()
    strength: float | None = None

    @classmethod
    def read(
        cls,
        reporter: Reporter,
        picture: Path,
        prompt: str | None,
        *,
        to: Path | None,
        from_text: str | None,
        to_text: str | None,
        theta: str | None,
        frames: int | None,
        strength: float | None,
    ) -> VaryEdit:
        """Raises UsageError for options that do not go together, InputError for a picture that cannot be read."""
        if (from_text is None) != (to_text is None):
            raise UsageError("--from-text and --to-text go together.", 'Write --from-text "a cat" --to-text "a dog"')
        if to is not None and to_text is not None:
            raise UsageError("--to and --to-text do not go together.", "Use one of them.")
        mode = "blend" if to is not None else "text-diff" if to_text is not None else "like"
        if theta is not None and mode != "text-diff":
            raise UsageError("--theta needs --from-text and --to-text.", 'Write --from-text "a cat" --to-text "a dog"')
        if frames is not None and mode == "like":
            raise UsageError("--frames needs --to or --to-text.", "Write t2i vary a.png --to b.png --frames 9")
        if frames is not None and not 2 <= frames <= MAX_FRAMES:
            raise UsageError(f"--frames {frames} makes no sense.", f"Write a number from 2 to {MAX_FRAMES}.")
        if prompt is not None and mode != "like":
            raise UsageError(f"{'--to' if to else '--to-text'} reads no prompt.", "Leave it out.")
        if prompt is not None:
            check_words(prompt, f"One picture is varied; for a blend of two write --to {prompt}")
            check_prompt(prompt)
        check_strength(strength)
        if from_text is not None and to_text is not None and from_text.strip() == to_text.strip():
            raise UsageError("--from-text and --to-text say the same.", 'Write --from-text "a cat" --to-text "a dog"')
        paths = (picture,) if to is None else (picture, to)
        texts, points = ("", ""), tuple[float, ...]()
        if from_text is not None and to_text is not None:
            texts = check_prompt(from_text, "--from-text"), check_prompt(to_text, "--to-text")
            points = parse_theta(theta or THETA, frames)
        elif to is not None:
            count = frames or FRAMES["blend"]
            points = tuple(i / (count - 1) for i in range(count))
        return cls(mode, tuple(read_square(reporter, path) for path in paths), texts, points, strength)

    def check_model(self, model: StoredModel, prompt: str | None, negative: str) -> None:
        """Raise UsageError for a model without an image encoder, or for what only ours can do."""
        check_sees(model, "t2i vary")
        if self.mode == "text-diff":
            check_sees(model, "--from-text")
        if not isinstance(model, Bundle):
            if prompt is not None or negative:
                raise UsageError(f"{model.name} varies pictures without reading a text.", "Leave the text out.")
            if self.strength is not None:
                raise UsageError(f"--strength: {model.name} draws all noise anew.", "Leave it out.")

    @property
    def without(self) -> tuple[str, ...]:
        """The kinds of stage that do not run: the pictures give the embedding."""
        return ("prior",)

    @property
    def reads(self) -> list[Path]:
        """The files that are read."""
        return [source.path for source in self.sources]

    def signer(self, signer: Signer | None) -> Signer | None:
        """The signer for the pictures, which names the sources as shown to the model."""
        return None if signer is None else signer.with_inputs(*(source.file() for source in self.sources))

    def apply(self, settings: Settings, point: int = 0) -> Settings:
        """The same settings with what decides the picture at a point, for its key and record."""
        facts: dict[str, Any] = {"pictures": [source.digest for source in self.sources]}
        if self.mode == "text-diff":
            facts["texts"] = list(self.texts)
        if self.points:
            facts["at"] = self.points[point]
        if self.strength is not None:
            facts["strength"] = self.strength
        changed = settings.adding({self.mode: facts})
        # frames differ in nothing else and may share a batch
        return replace(changed, group=settings.group) if self.points else changed

    def jobs(self, prompt: str, seeds: Sequence[int], read: Settings) -> list[Job]:
        """A job for each seed, or for each seed and point. Files are named after the sources.

        Raises UsageError for several seeds where they would draw the same frames.
        """
        if self.points and not self.strength and len(seeds) > 1:
            what = f"{len(seeds)} seeds would draw the same {len(self.points)} frames {len(seeds)} times."
            hint = f"For {len(seeds)} pictures --frames {len(seeds)}; for a series of frames a seed --strength 0.3."
            raise UsageError(what, hint)
        stems = " ".join(source.path.stem for source in self.sources)
        words = stems if self.mode == "blend" else " ".join([stems, *self.texts, prompt])
        if not self.points:
            settings = self.apply(read)
            return [Job(prompt, seed, i, i, settings, f"{self.mode} {words}") for i, seed in enumerate(seeds)]
        return [
            Job(prompt, seed, i, k * len(self.points) + i, self.apply(read, i), f"{self.mode} {words} {i:03}")
            for k, seed in enumerate(seeds)
            for i in range(len(self.points))
        ]

    def draw(self, engine: Engine, jobs: list[Job], request: SampleRequest, on_step: OnStep) -> Samples:
        """The pictures of jobs with equal settings."""
        pixels = [source.tensor for source in self.sources]
        batch = batch_of(jobs, request, on_step)
        if self.mode == "like":
            return engine.variations(pixels[0], batch, strength=1.0 if self.strength is None else self.strength)
        points, strength = [self.points[job.n] for job in jobs], self.strength or 0.0
        if self.mode == "blend":
            a, b = pixels
            return engine.blend(a, b, points, batch, strength=strength)
        return engine.text_diff(pixels[0], *self.texts, points, batch, strength=strength)


def write_animations(
    reporter: Reporter, request: DrawRequest, jobs: Sequence[Job], paths: Mapping[int, Path], ending: str
) -> None:
    """Write the frames of each seed as one moving picture (`ending`: webp or gif), and report it.

    paths: job index -> file; frames that failed are left out.
    """
    from t2i.media.images import load_image, save_animation

    rows: dict[int, list[Job]] = {}
    for job in jobs:
        if job.index in paths:
            rows.setdefault(job.seed, []).append(job)
    for frames in rows.values():
        first = paths[frames[0].index]
        record = request.record(frames[0])
        record = replace(record, key=f"{record.key}.animation")
        path = first.with_name(f"{first.stem}.frames.{ending}")
        save_animation([load_image(paths[job.index]) for job in frames], path, record)
        reporter.picture(path, {**record.table(), "frames": len(frames)})


def parse_theta(text: str, frames: int | None) -> tuple[float, ...]:
    """`0.3`, `0.25,0.5`, or `0.25..0.5` in as many steps as there are frames (5 unless said). Raises
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
    count = frames or FRAMES["text-diff"]
    return tuple(values[0] + (values[1] - values[0]) * i / (count - 1) for i in range(count))
