"""``--watch``: a command again and again, in place of its last answer on a terminal, one after the other in a pipe."""

from __future__ import annotations

import io
import shutil
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import wraps
from typing import Any, NoReturn, TypeVar

import click

from rrqd import clock
from rrqd.exc import StoreUnavailable

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_SECONDS = 2.0
TO_THE_TOP = "\x1b[H\x1b[2J"


def watch_option(command: Command) -> Command:
    """``--watch [SECONDS]``, for commands that show something and end."""

    @wraps(command)
    def watched(*args: Any, watch: float | None, **others: Any) -> Any:
        if watch is None:
            return command(*args, **others)
        _again_and_again(lambda: command(*args, **others), watch)

    return click.option(
        "--watch", is_flag=False, flag_value=DEFAULT_SECONDS, default=None, type=click.FloatRange(0.2, 3600),
        metavar="[SECONDS]", help=f"Again every so many seconds (left out: {DEFAULT_SECONDS:g}), until Ctrl-C.",
    )(watched)  # type: ignore[return-value]  # fmt: skip


class _Frame(io.StringIO):
    """What one turn prints; it looks like the terminal that will show it."""

    def __init__(self, like: Any) -> None:
        super().__init__()
        self._like = like

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return str(self._like.encoding)

    def isatty(self) -> bool:
        return bool(self._like.isatty())


def _again_and_again(show: Callable[[], Any], seconds: float) -> NoReturn:
    on_terminal = sys.stdout.isatty()
    while True:
        frame = _Frame(sys.stdout)
        with redirect_stdout(frame), redirect_stderr(frame if on_terminal else sys.stderr):
            try:
                show()
            except StoreUnavailable as fault:  # it may come back, and whoever watches wants to see it
                click.echo(f"rrqd: {fault}", err=True)
        text = frame.getvalue()
        click.echo(_fitted(text, seconds) if on_terminal else text, nl=False)
        time.sleep(seconds)


def _fitted(text: str, seconds: float) -> str:
    """The frame under a line that says when it was, cut to the terminal's height."""
    told = [f"every {seconds:g} s, last at {clock.wall():%H:%M:%S} UTC; Ctrl-C ends it", "", *text.splitlines()]
    return TO_THE_TOP + "\n".join(told[: shutil.get_terminal_size().lines - 1]) + "\n"
