"""`t2i serve`: a model that stays loaded, for scripts and for `t2i sample`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import UsageError
from t2i.jobs.device import check_device

EPILOG = """Examples:

\b
  t2i serve                                    # prints where it listens
  t2i serve --model sdxl/ --dtype bfloat16 --idle 600
  t2i serve --socket ~/t2i/small.sock
  t2i serve --port 0                           # a port of this machine alone
  T2I_SERVER=… t2i sample "a cat in the snow"  # in another terminal
"""


def serve(
    ctx: typer.Context,
    socket: Annotated[
        Path | None,
        typer.Option("--socket", metavar="PATH", help="Where to listen.  [default: in this user's own folder]"),
    ] = None,
    port: Annotated[
        int | None, typer.Option(metavar="N", help="Listen at 127.0.0.1 in place of a socket; 0 is any port.")
    ] = None,
    idle: Annotated[
        float | None, typer.Option(metavar="SECONDS", min=1, max=1e7, help="End when nobody asked for so long.")
    ] = None,
    model: opt.Model = "small",
    lora: opt.Loras = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    quantize: opt.Quantize = None,
    memory: opt.Memory = "auto",
    compile: opt.Compile = False,
    offline: opt.Offline = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Keep a model loaded, and draw for all programs of this user that ask, one after the other.

    `t2i sample` asks it where the environment variable T2I_SERVER holds the address that is printed here: it draws the
    same pictures, files and messages, without loading anything. Other programs send JSON lines, see docs/scripting.md.
    A signal ends it; what is drawn is saved first.
    """
    ui: UI = ctx.obj
    from t2i.jobs.device import pick_device
    from t2i.serve.address import Address, check_port, listening
    from t2i.serve.server import Server
    from t2i.store.models import find_model

    if socket is not None and port is not None:
        raise UsageError("--socket and --port do not go together.", "Leave one of them out.")
    check_device(device)
    loading = opt.read_loading(dtype, lora, quantize, memory, compile)
    address = Address.default()
    if socket is not None:
        address = Address(socket.expanduser().absolute())
    elif port is not None:
        address = Address(port=check_port(port))
    stored = find_model(model)
    stored.check_can("t2i sample")
    stored.check_load(loading)
    opt.environment(offline, False, device)
    with listening(address) as (at, listener, token):
        server = Server(ui, stored, (device, pick_device(device)), loading, idle, token)
        server.load()
        if ui.json:
            ui.record({"serving": str(at), "model": stored.manifest.name, "weights": stored.digest})
        else:
            ui.line(str(at))
        ui.note(f"serving {stored.manifest.name}; to use it: export T2I_SERVER={shlex.quote(str(at))}")
        server.run(listener)
