"""Every command and option of the real `rrq` is here under the same name."""

from __future__ import annotations

import re
from collections.abc import Iterator

import click
import pytest

from rrqd.cli.main import cli
from tests.interop.conftest import RealRRQ


def words_of(help_text: str, section: str) -> list[str]:
    """The first words of the lines of a section of the help."""
    part = re.search(rf"(?ms)^{section}:\n(.*?)(?:\n\n|\Z)", help_text)
    return re.findall(r"(?m)^ {2,6}(?:-\w, )?(--[\w-]+|[a-z][\w-]*)", part[1]) if part else []


def real_commands(rrq: RealRRQ, *path: str) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Every command that does something, with its options; ``health`` is a name the help does not list."""
    text = rrq.program(*path, "--help")
    names = [name for name in words_of(text, "Commands") if name != "help"]
    if not names:
        yield path, {word for word in words_of(text, "Options") if word.startswith("--")}
    for name in [*names, *(["health"] if not path else [])]:
        yield from real_commands(rrq, *path, name)


def ours(path: tuple[str, ...]) -> set[str] | None:
    """The options of our command of that name; None when there is none. What follows a command are its arguments."""
    command: click.Command | None = cli
    context = click.Context(cli)
    for name in path:
        if not isinstance(command, click.Group):
            break
        command = command.get_command(context, name)
        if command is None:
            return None
        context = click.Context(command, parent=context)
    assert command is not None
    options = [one for one in command.get_params(context) if isinstance(one, click.Option)]
    return {name for one in options for name in (*one.opts, *one.secondary_opts)}


@pytest.fixture(scope="module")
def theirs(real_rrq: RealRRQ) -> dict[str, set[str]]:
    return {" ".join(path): options for path, options in real_commands(real_rrq)}


def test_every_command_of_the_real_one_was_found(theirs: dict[str, set[str]]) -> None:
    assert len(theirs) == 22
    assert theirs["queue stats"] == {"--config", "--queue", "--max-scan", "--help"}


def test_every_command_and_option_is_here(theirs: dict[str, set[str]]) -> None:
    missing = set()
    for name, options in theirs.items():
        here = ours(tuple(name.split()))
        missing |= {name} if here is None else {f"{name} {option}" for option in options - here}

    assert missing == set()
