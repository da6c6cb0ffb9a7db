"""``rrqd debug``: a console inside a running worker, and RRQ's tools that make work up.

``rrqd debug default/0`` is short for ``rrqd debug console default/0``, and ``rrqd debug`` alone lists the workers.
"""

from __future__ import annotations

import difflib

import click

from rrqd.cli.console_command import console
from rrqd.cli.debug_load import clear, generate_jobs, generate_workers, stress_test, submit


class _ConsoleFirst(click.Group):
    """A group that takes what is no command's name for a worker's."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """As click does, with ``console`` put before a slot, or before nothing."""
        names = self.list_commands(ctx)
        if not args or (
            args[0] not in (*names, *ctx.help_option_names) and not difflib.get_close_matches(args[0], names, 1)
        ):
            args = ["console", *args]
        return super().parse_args(ctx, args)


@click.group("debug", cls=_ConsoleFirst)
def debug() -> None:
    """Look into a running worker; make up jobs and load for a test."""


for _one in (console, submit, generate_jobs, generate_workers, clear, stress_test):
    debug.add_command(_one)
