"""The side of `t2i sample`: draws by a running server that draws the same to the bit, or says why it does not."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from t2i.engine import OnStep
from t2i.errors import T2IError
from t2i.files import explain_os_error
from t2i.jobs.reporter import Reporter
from t2i.jobs.sample import SamplePlan
from t2i.serve.address import VARIABLE, Address
from t2i.serve.identity import identity
from t2i.serve.orders import write_order
from t2i.serve.wire import Gone, Wire, error_of
from t2i.store.load_options import LoadOptions

HELLO = 5.0  # seconds in which a server must say hello


class Unfit(Exception):
    """The server cannot be used; the message says why, and ends no sentence."""


def draw_by_server(reporter: Reporter, plan: SamplePlan, device: str, loading: LoadOptions) -> int | None:
    """Let the server that $T2I_SERVER names draw the plan; what it tells is told as if it were drawn here.

    -> None where all is done; else how many pictures were told, and all others are to be drawn here: 0 also where no
    server is named. Raises the error of the run, as `SamplePlan.draw` does.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        return 0
    told = _Told(reporter)
    try:
        error = _ask(Address.parse(named), told, plan, device, loading)
    except (OSError, Gone, Unfit, T2IError) as fault:
        reporter.failed -= told.failed  # they are tried again
        reporter.note(f"the server {named} is not used: {_reason(fault)}; drawing here")
        return told.pictures
    if error is not None:
        raise error
    return None


def _ask(address: Address, told: _Told, plan: SamplePlan, device: str, loading: LoadOptions) -> T2IError | None:
    """The error of the run. Raises Gone where the server goes, Unfit where it would draw other pictures."""
    order = write_order(plan.order, address.token())
    wire = Wire(address.connect(HELLO), HELLO, waits=False)
    try:
        _check(wire.receive(), plan, device, loading)
        wire.send(order)
        wire.waits = True  # others may be before us
        while (table := wire.receive()) is not None:
            if "ok" in table:
                return told.end(table)
            told.tell(table)
        raise Gone
    finally:
        told.close()
        wire.close()


def _check(hello: dict[str, Any] | None, plan: SamplePlan, device: str, loading: LoadOptions) -> None:
    """Raise Unfit unless the server's pictures are those that would be drawn here, to the bit."""
    identities = hello.get("identities") if hello else None
    if not hello or hello.get("server") != "t2i" or not isinstance(identities, list):
        raise Unfit("it is no server of t2i")
    own = identity(plan.model, device, loading)
    differing = [{name for name in own if each.get(name) != own[name]} for each in identities if isinstance(each, dict)]
    if not any(names == set() for names in differing):
        raise Unfit(f"it differs in {' and '.join(sorted(set.intersection(*differing) if differing else own))}")


def _reason(fault: Exception) -> str:
    if isinstance(fault, T2IError):
        return fault.message.rstrip(".")
    if isinstance(fault, OSError):
        return explain_os_error(fault)
    return str(fault) or "it has gone, or does not answer"


class _Told:
    """Tells a `Reporter` what a server sends. pictures, failed: how many were told."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.pictures = self.failed = 0
        self._bars = ExitStack()
        self._on_step: OnStep | None = None

    def tell(self, table: dict[str, Any]) -> None:
        """One line that is not the last."""
        event = table.get("event")
        if event == "note":
            self.reporter.note(str(table["text"]))
        elif event == "warning":
            self.reporter.warn(str(table["text"]))
        elif event == "error":
            self.failed += 1
            self.reporter.failed += 1
            self.reporter.fail(error_of(table["error"]))
        elif event == "begin":
            progress = self.reporter.progress(str(table["what"]), int(table["done"]), int(table["total"]))
            self._on_step = self._bars.enter_context(progress)
        elif event == "step" and self._on_step is not None:
            self._on_step(str(table["stage"]), int(table["step"]), int(table["of"]), None)
        elif event == "end":
            self.close()
        elif "sheet" in table:
            self.reporter.sheet(Path(table["path"]), _record(table))
        elif "path" in table:
            self.pictures += 1
            self.reporter.picture(Path(table["path"]), _record(table))

    def end(self, envelope: dict[str, Any]) -> T2IError | None:
        """The error of the run. Raises Gone where the server was stopped before the end."""
        error = error_of(envelope["error"]) if envelope["error"] else None
        if error is not None and error.code == "interrupted":
            raise Gone
        return error

    def close(self) -> None:
        """End the bars of a batch."""
        self._on_step = None
        self._bars.close()


def _record(table: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in table.items() if key != "path"}
