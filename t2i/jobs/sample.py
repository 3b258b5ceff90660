"""The order of `t2i sample` as plain data, its plan, and the run; for the command line and for the server alike."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.jobs.job import Job
from t2i.jobs.output_paths import OutputPaths
from t2i.jobs.prompt_file import PromptLine, plan
from t2i.jobs.reporter import Reporter
from t2i.jobs.request import DrawRequest
from t2i.jobs.runner import Runner
from t2i.jobs.sample_edit import SampleEdit
from t2i.jobs.settings import Settings, check_used, read_settings
from t2i.jobs.shard import Shard, share
from t2i.jobs.sheets import write_sheets
from t2i.jobs.sweep import parse_sweep
from t2i.store.load_options import LoadOptions

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.engine import Engine
    from t2i.media.c2pa import Signer
    from t2i.store.models import StoredModel


@dataclass(frozen=True)
class SampleOrder:
    """What is to be drawn and where it goes, apart from model and machine.

    lines: the prompts. n, seeds, options: for lines that do not say them; where neither says a seed, it is derived from
    the prompt; options: name -> text. edit: how pictures depart from their prompts alone. output: a folder or template.
    sweep: as its options are written. shard: the share that is drawn, None for all. The rest: as the options of these
    names.
    """

    lines: tuple[PromptLine, ...]
    n: int | None = None
    seeds: tuple[int, ...] | None = None
    options: dict[str, str] = field(default_factory=dict)
    edit: SampleEdit = field(default_factory=SampleEdit)
    sweep: tuple[str, ...] = ()
    output: str = "out"
    batch: int = 8
    grid: bool = False
    keep_stages: bool = False
    overwrite: bool = False
    private: bool = False
    shard: Shard | None = None


@dataclass
class WarmEngine:
    """A loaded model that is kept from one run to the next; None until a run has loaded it."""

    engine: Engine | None = None


@dataclass(frozen=True)
class SamplePlan:
    """A checked order: the jobs of a model, also those of other shares, and their files."""

    order: SampleOrder
    model: StoredModel
    jobs: list[Job]
    paths: OutputPaths

    @classmethod
    def of(cls, order: SampleOrder, model: StoredModel, loading: LoadOptions) -> SamplePlan:
        """Raises UsageError for what the model cannot do, and for a template that makes no sense. The options are read
        before the lines, so that no line is blamed for one of them."""
        model.check_can("t2i sample")
        model.check_load(loading)
        model.check_options(order.options)
        order.edit.check_model(model)
        paths = OutputPaths(order.output, model.manifest.name)
        seeds = None if order.seeds is None else list(order.seeds)

        def settings_of(said: dict[str, str]) -> Settings:
            edited = order.edit.init is not None
            return order.edit.apply(read_settings(model, loading, said, without=order.edit.without, quality=edited))

        settings_of(order.options)
        if order.edit.init is not None:
            (line,) = order.lines
            assert seeds is not None
            return cls(order, model, order.edit.jobs(line.prompt, seeds, settings_of(order.options)), paths)
        axes = parse_sweep(list(order.sweep))
        jobs = plan(list(order.lines), order.n, seeds, order.options, settings_of, axes)
        return cls(order, model, jobs, paths)

    def check(self) -> SamplePlan:
        """Return self. Raises UsageError for options that no picture heeds and for a picture in the place of one that
        is read, InputError (code `output`) for a folder that cannot be written to."""
        check_used(job.settings for job in self.jobs)
        self.paths.check(self.jobs, self.kept)
        return self

    @property
    def kept(self) -> list[Path]:
        """The files that are read, where pictures that exist are replaced."""
        return self.order.edit.reads if self.order.overwrite else []

    def request(self, signer: Signer | None = None) -> DrawRequest:
        """What the runner asks."""
        order = self.order
        return DrawRequest(
            self.model, self.paths.names, keep_stages=order.keep_stages, overwrite=order.overwrite,
            manifest=not self.paths.single, private=order.private, signer=signer,
            inputs=order.edit.reads, draw_jobs=order.edit.draw,
        )  # fmt: skip

    def draw(
        self,
        reporter: Reporter,
        device: str,
        *,
        signer: Signer | None = None,
        warm: WarmEngine | None = None,
        told: int = 0,
    ) -> None:
        """Draw what does not exist, and report all but the first `told` pictures, which were reported before.

        warm: holds the model, or takes it. Raises what `Runner.run` and `Runner.finish` raise.
        """
        order, warm, left = self.order, warm or WarmEngine(), told

        def on_picture(path: Path, table: dict[str, Any], image: Image | None) -> None:
            nonlocal left
            if left:
                left -= 1
            else:
                reporter.picture(path, table, image)

        request = self.request(signer)
        remember = bool(order.grid or order.sweep)
        jobs = share(order.shard, self.jobs, request)
        runner = Runner(reporter, request, jobs, device, order.batch, remember, on_picture)
        runner.engine = warm.engine
        try:
            runner.run()
        finally:
            warm.engine = runner.engine
        if order.shard is None:
            write_sheets(reporter, request, self.jobs, runner, order.grid)
        elif order.sweep:
            reporter.note("the sheet of a sweep is written by the same command without --shard")
        runner.finish()
