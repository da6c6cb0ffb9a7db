"""``rrqd runner``: our own socket runner, for an rrqd or for RRQ's orchestrator."""

from __future__ import annotations

import os
from ipaddress import ip_address
from pathlib import Path

import click

from rrqd.cli.invocation import Invocation, file_option


@click.command("runner")
@click.argument("language", type=click.Choice(["python"]), default="python")
@click.option("--settings", required=True, metavar="MODULE:OBJECT", help="A Registry or a PythonRunnerSettings.")
@click.option("--tcp-socket", metavar="HOST:PORT", help="Listen here; loopback only.")
@click.option("--socket-fd", metavar="N", type=click.IntRange(3), help="Serve this inherited, connected socket.")
@file_option
@click.pass_obj
def runner(invocation: Invocation, language: str, settings: str, tcp_socket: str | None, socket_fd: int | None) -> None:
    """Serve handlers over RRQ's runner protocol until TERM or Ctrl-C, or until the worker that started it is gone.

    rrqd adds --socket-fd or --tcp-socket to the runner's cmd, RRQ's orchestrator --tcp-socket. The current folder is
    importable, and with --config the file's. LANGUAGE is RRQ's spelling; there is only python.
    """
    if (tcp_socket is None) == (socket_fd is None):
        raise click.UsageError("one of --tcp-socket and --socket-fd is needed")
    address = _loopback(tcp_socket) if tcp_socket is not None else None
    import setproctitle
    import uvloop

    from rrqd import logs
    from rrqd.bridge.serve import serve
    from rrqd.handlers import load_handlers, make_importable

    setproctitle.setproctitle(f"rrqd: runner {settings}")
    logs.configure("runner", "auto", {"warn": "warning"}.get(_level(), _level()))
    make_importable(Path.cwd())
    folder = Path(invocation.config_path).absolute().parent if invocation.config_path else None
    uvloop.run(serve(load_handlers(settings, folder), address=address, socket_fd=socket_fd))


def _level() -> str:
    level = os.environ.get("RRQ_LOG_LEVEL", "").lower()
    return level if level in ("debug", "info", "warn", "warning", "error") else "info"


def _loopback(text: str) -> tuple[str, int]:
    """``127.0.0.1:9000`` as (host, port). Raises a usage error for anything but a port of this machine's own."""
    from rrqd.config.shapes import split_address

    try:
        host, port = split_address(text)
        host = "127.0.0.1" if host == "localhost" else host
        if port == 0 or not ip_address(host).is_loopback:
            raise ValueError("must be a loopback address and a port from 1 to 65535")
    except ValueError as fault:
        raise click.UsageError(f"--tcp-socket {text}: {fault}") from None
    return host, port
