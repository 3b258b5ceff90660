"""What a run of `t2i score` looks at: the prompts of a suite, and pictures, given or drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from t2i.errors import InputError
from t2i.jobs.output_paths import check_writable
from t2i.jobs.reporter import Reporter
from t2i.score.draw_suite import SuiteOrder, draw_suite
from t2i.score.picture_files import PictureFile, find_pictures, read_prompts
from t2i.score.request import ScoreRequest
from t2i.score.suite import SuitePrompt, find_suite
from t2i.score.task_scores import subsample
from t2i.store.models import find_model
from t2i.store.registry import resolve_judge
from t2i.world.judge import Judge
from t2i.world.reading import Expectation


def suite_prompts(reporter: Reporter, request: ScoreRequest) -> list[SuitePrompt]:
    """The prompts of the suite, each once; none without a suite."""
    if request.suite is None:
        return []
    every = find_suite(request.suite)
    prompts = list({p.text: p for p in reversed(every)}.values())[::-1]
    if repeats := len(every) - len(prompts):
        reporter.note(f"{repeats} of the {len(every)} prompts of {request.suite} are repeats and are left out")
    if request.limit is None or request.limit >= len(prompts):
        return prompts
    some = subsample(prompts, request.limit)
    reporter.note(f"{len(some)} of the {len(prompts)} prompts of {request.suite}, evenly from {_tasks(some, prompts)}")
    return some


def _tasks(some: Sequence[SuitePrompt], every: Sequence[SuitePrompt]) -> str:
    """ "all of it", "its 8 tasks", "2 of its 8 tasks"."""
    few, all_ = (len({prompt.task for prompt in prompts}) for prompts in (some, every))
    return "all of it" if all_ == 1 else f"its {all_} tasks" if few == all_ else f"{few} of its {all_} tasks"


def judgeable(reporter: Reporter, prompts: list[SuitePrompt]) -> list[SuitePrompt]:
    """The prompts; those that ask for a thing which the judge does not know have no expectation any more."""
    if not any(p.expectation.objects for p in prompts):
        return prompts
    known = Judge.load(resolve_judge()).config.things
    unknown = {w.thing for p in prompts for w in p.expectation.objects} - set(known)
    if not unknown:
        return prompts
    out = [
        replace(p, expectation=Expectation()) if any(w.thing in unknown for w in p.expectation.objects) else p
        for p in prompts
    ]
    n = sum(a is not b for a, b in zip(out, prompts, strict=True))
    what = f"{n} of {len(prompts)} prompts are not judged: they ask for {len(unknown)} things that the judge"
    reporter.warn(f"{what} does not know, such as {min(unknown)}")
    return out


def given_pictures(reporter: Reporter, request: ScoreRequest, suite: Sequence[SuitePrompt]) -> list[PictureFile]:
    """The pictures in the user's files and folders.

    Raises InputError if none can be read, if --prompts names none of them, or if none has a prompt of the suite.
    """
    listed = read_prompts(request.prompts) if request.prompts else {}
    pictures, broken = find_pictures(request.places, listed)
    for _, error in broken:
        reporter.failed += 1
        reporter.fail(error)
    if not pictures:
        raise InputError("none of the pictures can be read.", "See above.", "partial")
    n = len(pictures)
    if request.prompts is not None:
        lost = set(listed) - {p.name for p in pictures} - {p.path.name for p in pictures}
        if len(lost) == len(listed):
            what = f"{request.prompts} names none of the pictures."
            raise InputError(what, 'Write {"file_name": …, "prompt": …} a line.')
        if lost:
            what = f"{len(lost)} of the {len(listed)} pictures that {request.prompts} names are not there"
            reporter.warn(f"{what}: {min(lost)}")
    without_prompt = sum(p.prompt is None for p in pictures)
    if without_prompt:
        what = f"{without_prompt} of {n} pictures have no prompt, and clip leaves them out"
        reporter.note(f"{what}; --prompts FILE.jsonl says what pictures show")
    if suite:
        texts = {p.text for p in suite}
        in_suite = sum(p.prompt in texts for p in pictures)
        if not in_suite:
            named = "Give the suite that they came from."
            hint = named if without_prompt < n else "Say what they show with --prompts FILE.jsonl."
            raise InputError("no picture was drawn for a prompt of the suite.", hint)
        without_picture = len(texts - {p.prompt for p in pictures if p.prompt})
        if without_picture:
            reporter.warn(f"{without_picture} of the {len(texts)} prompts of the suite have no picture")
        if in_suite < n:
            reporter.note(f"{n - in_suite} of {n} pictures show nothing that the suite asks for")
    return pictures


def drawn_pictures(reporter: Reporter, request: ScoreRequest, suite: Sequence[SuitePrompt]) -> list[PictureFile]:
    """The pictures of the suite, drawn where they do not exist yet."""
    assert request.suite is not None, "neither pictures nor a suite"
    draw = request.draw
    model = find_model(draw.model)
    model.check_can("t2i sample")
    folder = draw.folder or Path("scores") / f"{Path(request.suite).stem}-{model.manifest.name}"
    check_writable(folder)
    order = SuiteOrder(
        model, suite, draw.n, draw.seed, draw.settings, folder, request.batch, request.device, draw.loading, draw.shard
    )
    return draw_suite(reporter, order)


def all_pictures(place: Path) -> list[PictureFile]:
    """The pictures of a reference set. Raises the error of the first that cannot be read."""
    pictures, broken = find_pictures([place])
    if broken:
        raise broken[0][1]
    return pictures
