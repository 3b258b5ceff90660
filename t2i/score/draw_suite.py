"""Draw the pictures of a suite. The same command again draws only what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from t2i.jobs.job import Job
from t2i.jobs.output_paths import slug
from t2i.jobs.reporter import Reporter
from t2i.jobs.request import DrawRequest
from t2i.jobs.runner import Runner
from t2i.jobs.settings import check_used, read_settings
from t2i.jobs.shard import Shard, share
from t2i.prompts import seeds_from
from t2i.score.picture_files import PictureFile
from t2i.store.load_options import LoadOptions

if TYPE_CHECKING:
    from t2i.score.suite import SuitePrompt
    from t2i.store.models import StoredModel

SLUG = 60  # characters of a prompt in a file name


@dataclass(frozen=True)
class SuiteOrder:
    """What to draw: `n` pictures of each prompt, picture i with seed `seed` + i. options: settings as a
    user writes them, name -> text. loading: of the model's weights. shard: draw and report this share alone."""

    model: StoredModel
    prompts: Sequence[SuitePrompt]
    n: int
    seed: int
    options: dict[str, str]
    folder: Path
    batch: int = 16
    device: str = "auto"
    loading: LoadOptions = field(default_factory=LoadOptions)
    shard: Shard | None = None


def draw_suite(reporter: Reporter, order: SuiteOrder) -> list[PictureFile]:
    """The pictures of a suite in its order, with their prompts; those that exist are not drawn again.

    Raises UsageError for settings or seeds that make no sense, InputError (code `output`) where a picture cannot be
    written, (code `partial`) where one came out broken.
    """
    settings = read_settings(order.model, order.loading, order.options)
    check_used([settings])
    seeds = seeds_from(order.seed, order.n, "--seed ")
    pairs = [(prompt.text, n, seed) for prompt in order.prompts for n, seed in enumerate(seeds)]
    jobs = [Job(text, seed, n, index, settings) for index, (text, n, seed) in enumerate(pairs)]

    def names(job: Job) -> list[Path]:
        return [order.folder / f"{slug(job.prompt)[:SLUG].strip('-')}-{job.seed}-{request.key(job)[:10]}.png"]

    request = DrawRequest(order.model, names, command="score", manifest=False)
    jobs = share(order.shard, jobs, request)
    # without a share the pictures are reported with their scores, later
    told = reporter.picture if order.shard else lambda *_: None
    runner = Runner(reporter, request, jobs, order.device, order.batch, remember=True, on_picture=told)
    runner.run()
    runner.finish()
    return [_picture(request, job, runner.paths[job.index]) for job in jobs]


def _picture(request: DrawRequest, job: Job, path: Path) -> PictureFile:
    return PictureFile(path, path.name, job.prompt, job.seed, request.key(job), request.digest)
