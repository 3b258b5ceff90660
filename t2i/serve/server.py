"""The server: one model, orders one after the other, and nothing that a client sends ends it."""

from __future__ import annotations

import hmac
import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import t2i
from t2i.engine import OnStep
from t2i.errors import InputError, InternalError, StoppedError, T2IError, UnavailableError, UsageError
from t2i.jobs.engine import load_engine
from t2i.jobs.faults import as_error
from t2i.jobs.reporter import Reporter, Stopped
from t2i.jobs.sample import SamplePlan, WarmEngine
from t2i.serve.identity import identity
from t2i.serve.orders import read_order
from t2i.serve.wire import Gone, Wire, error_table
from t2i.store.load_options import LoadOptions
from t2i.store.models import StoredModel

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_CLIENTS = 64  # connections at a time
STEPS_APART = 0.1  # seconds between two steps that are told


class HungUp(Stopped):
    """The client of a run has gone: the run ends as it does after a signal."""


@dataclass
class _Order:
    """A client's order; `done` is set when it is answered."""

    wire: Wire
    table: dict[str, Any]
    done: threading.Event = field(default_factory=threading.Event)


@dataclass
class WireReporter:
    """Tells the client of a run what `Reporter` asks for. finishing: the server's own, for its signals."""

    wire: Wire
    finishing: Callable[[], AbstractContextManager[list[int]]]
    pictures: int = 0
    failed: int = 0
    shows: bool = field(default=False, init=False)

    def note(self, text: str) -> None:
        """See `Reporter`."""
        self._send({"event": "note", "text": text})

    def warn(self, text: str) -> None:
        """See `Reporter`."""
        self._send({"event": "warning", "text": text})

    def fail(self, error: T2IError) -> None:
        """See `Reporter`."""
        self._send({"event": "error", "error": error_table(error)})

    def picture(self, path: Path, table: dict[str, Any], image: Image | None = None) -> None:
        """See `Reporter`."""
        self.pictures += 1
        self._send({**table, "path": str(path)})

    def sheet(self, path: Path, table: dict[str, Any]) -> None:
        """See `Reporter`."""
        self._send({**table, "path": str(path)})

    @contextmanager
    def progress(self, what: str, done: int = 0, total: int = 0) -> Iterator[OnStep]:
        """See `Reporter`. At each step it is seen whether the client is still there."""
        last = 0.0

        def on_step(stage: str, step: int, of: int, x0_hat: Any) -> None:
            nonlocal last
            if self.wire.hung_up():
                raise HungUp(signal.SIGPIPE)
            if step == of or time.monotonic() - last >= STEPS_APART:
                last = time.monotonic()
                self._send({"event": "step", "stage": stage, "step": step, "of": of})

        self._send({"event": "begin", "what": what, "done": done, "total": total})
        yield on_step
        self._send({"event": "end"})

    def envelope(self, error: T2IError | None) -> None:
        """The last line of the answer."""
        fault = error_table(error) if error else None
        code = error.exit_code if error else 0
        counts = {"pictures": self.pictures, "failed": self.failed}
        self._send({"ok": error is None, "command": "sample", **counts, "error": fault, "exit": code})

    def _send(self, table: dict[str, Any]) -> None:
        try:
            self.wire.send(table)
        except Gone as error:
            raise HungUp(signal.SIGPIPE) from error


@dataclass
class Server:
    """Serves one loaded model until a signal comes, or nobody asks for `idle` seconds.

    device: as it was written, and as it is used. token: what each order must hold, "" for none.
    """

    reporter: Reporter
    model: StoredModel
    device: tuple[str, str]
    loading: LoadOptions
    idle: float | None = None
    token: str = ""
    _warm: WarmEngine = field(default_factory=WarmEngine)
    _orders: queue.Queue[_Order] = field(default_factory=queue.Queue)
    _wires: set[Wire] = field(default_factory=set)

    def load(self) -> None:
        """Load the weights. Raises as `load_engine`."""
        self._warm.engine = load_engine(self.model, self.device[1], self.loading)

    def run(self, listener: socket.socket) -> None:
        """Serve. Raises Stopped and KeyboardInterrupt, which end it, once the pictures that are drawn are saved."""
        hello = {
            "server": "t2i",
            "version": t2i.__version__,
            "model": self.model.manifest.name,
            "digest": self.model.digest,
            "identities": [identity(self.model, device, self.loading) for device in dict.fromkeys(self.device)],
        }
        threading.Thread(target=self._accept, args=(listener, hello), daemon=True).start()
        here = os.getcwd()
        try:
            while True:
                try:
                    order = self._orders.get(timeout=self.idle)
                except queue.Empty:
                    self.reporter.note(f"nobody asked for {self.idle:g} s")
                    return
                try:
                    self._answer(order)
                finally:
                    with suppress(OSError):  # it may be gone
                        os.chdir(here)
                    order.done.set()
        finally:
            for wire in list(self._wires):
                wire.close()

    def _answer(self, order: _Order) -> None:
        """Draw an order, and tell its client; the failure of a run is its client's."""
        if order.wire.hung_up():
            return
        told, error = WireReporter(order.wire, self.reporter.finishing), None
        try:
            self._draw(order, told)
        except HungUp:
            self.reporter.note("a client has hung up")
            return
        except (Stopped, KeyboardInterrupt):
            with suppress(HungUp):
                told.envelope(StoppedError("the server was stopped.", "Run it again."))
            raise
        except Exception as fault:
            error = as_error(fault)
            if isinstance(error, InternalError) and error.__cause__ is not None:
                self.reporter.fail(error)
        with suppress(HungUp):
            told.envelope(error)

    def _draw(self, order: _Order, told: WireReporter) -> None:
        sample, wire = read_order(order.table, told)
        if not hmac.compare_digest(wire.token.encode(), self.token.encode()):
            raise UsageError(
                "the order does not hold this server's token.", "It is in the file that `t2i serve` names."
            )
        try:
            os.chdir(wire.cwd)
        except OSError as error:
            raise InputError(f"cannot go to the folder {wire.cwd}.", "Name another.") from error
        before = os.umask(0o077 if wire.umask is None else wire.umask)
        try:
            plan = SamplePlan.of(sample, self.model, self.loading).check()
            plan.draw(told, self.device[1], warm=self._warm)
        finally:
            os.umask(before)

    def _accept(self, listener: socket.socket, hello: dict[str, Any]) -> None:
        """Take connections until the listener is closed."""
        while True:
            try:
                link, _ = listener.accept()
            except OSError:
                if listener.fileno() < 0:
                    return
                time.sleep(0.1)  # no descriptors left: until a client has gone
                continue
            wire = Wire(link)
            if len(self._wires) >= MAX_CLIENTS:
                with suppress(Gone):
                    wire.send(_refusal(UnavailableError("too many clients are connected.", "Try again.")))
                wire.close()
                continue
            self._wires.add(wire)
            threading.Thread(target=self._listen, args=(wire, hello), daemon=True).start()

    def _listen(self, wire: Wire, hello: dict[str, Any]) -> None:
        """Take the orders of one client. A line that is no order of ours ends the connection."""
        try:
            wire.send(hello)
            while (table := wire.receive()) is not None:
                order = _Order(wire, table)
                self._orders.put(order)
                order.done.wait()
        except Gone:
            pass
        except T2IError as error:
            with suppress(Gone):
                wire.send(_refusal(error))
        finally:
            self._wires.discard(wire)
            wire.close()


def _refusal(error: T2IError) -> dict[str, Any]:
    """The envelope for what was no order."""
    counts = {"pictures": 0, "failed": 0, "error": error_table(error)}
    return {"ok": False, "command": "sample", **counts, "exit": error.exit_code}
