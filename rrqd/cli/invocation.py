"""What all commands share: the configuration file that was asked for, and the options to ask with.

A command that needs settings takes `@click.pass_obj` and calls `invocation.load()`; one that prints data takes
`@json_option` and hands the flag to `output.emit`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rrqd.config.objects import name_of

if TYPE_CHECKING:
    from rrqd.config.loader import Loaded

Command = TypeVar("Command", bound=Callable[..., Any])


@dataclass(slots=True)
class Invocation:
    """One call of `rrqd`. `config_path` is what `--config` said, before or after the command's name; else None."""

    config_path: str | None = None

    def load(self) -> Loaded:
        """The settings. Raises `ConfigError`, which `main` prints and turns into exit code 78."""
        from rrqd.config.loader import load

        return load(self.config_path)


def _remember_object(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).config_path = name_of(value)


def _remember_config(context: click.Context, _parameter: click.Parameter, value: str | None) -> None:
    if value is not None:
        context.ensure_object(Invocation).config_path = value


def config_option(command: Command) -> Command:
    """`--config/-c FILE` or `--settings OBJECT`, before or after the command's name; the later one counts."""
    return click.option(
        "--settings",
        metavar="OBJECT",
        expose_value=False,
        callback=_remember_object,
        help="In place of a file: an RRQSettings of rrqd.classic, as app.settings. Also: $RRQ_SETTINGS.",
    )(file_option(command))


def file_option(command: Command) -> Command:
    """`--config/-c FILE` alone."""
    return click.option(
        "--config",
        "-c",
        metavar="FILE",
        type=click.Path(),
        expose_value=False,
        callback=_remember_config,
        help="The rrq.toml to use. Otherwise: $RRQ_CONFIG, then ./rrq.toml.",
    )(command)


def json_option(command: Command) -> Command:
    """`--json`, passed to the command as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)
