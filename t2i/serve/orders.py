"""An order of `t2i sample` as a JSON object, and back."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any

from t2i.errors import UsageError, nearest
from t2i.jobs.parsing import check_count
from t2i.jobs.prompt_file import PromptLine, read_job, read_seeds, write_job
from t2i.jobs.reporter import Reporter
from t2i.jobs.sample import SampleOrder
from t2i.jobs.sample_edit import MAX_CANDIDATES, SampleEdit
from t2i.jobs.settings import NAMES, as_options, check_options
from t2i.jobs.shard import Shard
from t2i.prompts import check_prompt, random_seed
from t2i.schema import Between, build

HINT = 'Write {"prompt": "a cat in the snow", "seed": 7, "output": "out", "cwd": "…"}'


@dataclass(frozen=True)
class WireOrder:
    """The fields of an order, besides those of `settings.NAMES`.

    Either prompt, or jobs: objects like the lines of a jobs file. n, seed: as there, for lines without. cwd: the folder
    that a relative output is in. umask: of the files. token: of a server on a port. The rest: as the options of
    `t2i sample`.
    """

    cwd: str
    prompt: str | None = None
    jobs: tuple[dict[str, Any], ...] = ()
    n: int | None = None
    seed: Any = None
    output: str = "out"
    batch: Annotated[int, Between(1, 1024)] = 8
    sweep: tuple[str, ...] = ()
    grid: bool = False
    keep_stages: bool = False
    overwrite: bool = False
    no_prompt_metadata: bool = False
    rerank: Annotated[int, Between(2, MAX_CANDIDATES)] | None = None
    prior: str | None = None
    prior_best_of: Annotated[int, Between(1, MAX_CANDIDATES)] | None = None
    shard: str | None = None
    umask: Annotated[int, Between(0, 0o777)] | None = None
    token: str = ""


FIELDS = (*(f.name for f in fields(WireOrder)), *NAMES)


def write_order(order: SampleOrder, token: str) -> dict[str, Any]:
    """The order of a client, for a server that works in the same folder."""
    edit, umask = order.edit, os.umask(0)
    os.umask(umask)
    table = {
        "cwd": os.getcwd(),
        "jobs": [write_job(line) for line in order.lines],
        "n": order.n,
        "seed": None if order.seeds is None else list(order.seeds),
        "output": order.output,
        "batch": order.batch,
        "sweep": list(order.sweep),
        "grid": order.grid,
        "keep_stages": order.keep_stages,
        "overwrite": order.overwrite,
        "no_prompt_metadata": order.private,
        "rerank": edit.rerank,
        "prior": edit.prior,
        "prior_best_of": edit.best_of,
        "shard": None if order.shard is None else str(order.shard),
        "umask": umask,
        "token": token,
        **order.options,
    }
    return {key: value for key, value in table.items() if value is not None}


def read_order(table: dict[str, Any], reporter: Reporter) -> tuple[SampleOrder, WireOrder]:
    """The order that a client sent; a prompt without a seed gets a random one, which is told. Raises UsageError and
    InputError, as the command line does for its options."""
    for key in table:
        if key not in FIELDS and key != "schema":
            near = nearest(key[:80], FIELDS, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"An order may hold {', '.join(FIELDS)}."
            raise UsageError(f"an order has no field {key[:80]!r}.", hint)
    try:
        wire: WireOrder = build(WireOrder, {k: v for k, v in table.items() if k not in NAMES and k != "schema"})
    except ValueError as error:
        raise UsageError(f"the order cannot be used: {error}.", HINT) from error
    folder = Path(wire.cwd)
    if "\0" in wire.cwd or not folder.is_absolute() or not folder.is_dir():
        raise UsageError(f"cwd: {wire.cwd[:200]!r} is no folder.", "Write the full path of a folder that is there.")
    if (wire.prompt is None) == (not wire.jobs):
        raise UsageError("an order holds a prompt, or jobs.", HINT)
    check_count(wire.n)
    seeds = read_seeds(wire.seed, wire.n)
    options = as_options({key: table[key] for key in NAMES if table.get(key) is not None})
    check_options(options)
    if wire.prompt is not None:
        lines = [PromptLine(check_prompt(wire.prompt))]
        if seeds is None:
            first = random_seed()
            reporter.note(f"seed {first}")
            seeds = list(range(first, first + (wire.n or 1)))
    else:
        lines = [read_job(job, f"job {i}") for i, job in enumerate(wire.jobs, 1)]
    edit = SampleEdit.read(
        reporter, init=None, strength=None, rerank=wire.rerank, prior=wire.prior, best_of=wire.prior_best_of
    )
    return SampleOrder(
        tuple(lines), wire.n, None if seeds is None else tuple(seeds), options, edit, wire.sweep,
        wire.output, wire.batch, wire.grid, wire.keep_stages, wire.overwrite, wire.no_prompt_metadata,
        None if wire.shard is None else Shard.parse(wire.shard),
    ), wire  # fmt: skip
