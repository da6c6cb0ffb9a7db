"""A command's way to the daemon on this machine: its control socket, found by the configuration's state folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rrqd.cli.invocation import Invocation
from rrqd.config.settings import resolve_state_dir
from rrqd.exc import RRQError
from rrqd.local_socket import ask

TIMEOUT_SECONDS = 10.0


class NoDaemon(RRQError):
    """Nobody answers at the control socket."""


class CommandRefused(RRQError):
    """The daemon said no; the text is its reason."""


def tell(invocation: Invocation, timeout_seconds: float | None = TIMEOUT_SECONDS, **question: Any) -> dict[str, Any]:
    """The daemon's answer. Raises NoDaemon and CommandRefused, which ``main`` prints (exit code 1)."""
    folder = state_dir_of(invocation)
    try:
        answer = ask(folder, question, timeout_seconds)
    except (FileNotFoundError, ConnectionRefusedError):
        raise NoDaemon(f"no rrqd runs on state_dir {folder}; is it the right --config?") from None
    except PermissionError:
        raise NoDaemon(f"the rrqd on state_dir {folder} is another user's; become that user, or root") from None
    except TimeoutError:
        raise NoDaemon(f"the rrqd on state_dir {folder} did not answer within {timeout_seconds:g} s") from None
    except (OSError, ValueError) as error:
        raise NoDaemon(f"the rrqd on state_dir {folder} hung up: {error}") from None
    if not answer.get("ok"):
        raise CommandRefused(str(answer.get("error") or "refused"))
    return answer


def status_of(invocation: Invocation) -> dict[str, Any] | None:
    """The master's own view, or ``None`` when no daemon runs here."""
    try:
        status = tell(invocation, command="status")["status"]
    except (NoDaemon, CommandRefused):
        return None
    assert isinstance(status, dict)
    return status


def address_of(invocation: Invocation, status: dict[str, Any] | None) -> str:
    """Where the daemon's pages are: where the master of this machine serves, which may be a socket of systemd's or what
    the file said when it started; else what the file says. "" or "off": nowhere."""
    return str(status["http"]) if status is not None else invocation.load().settings.rrqd.http


def state_dir_of(invocation: Invocation) -> Path:
    """Where the daemon of this configuration keeps its state."""
    return resolve_state_dir(invocation.load().settings)
