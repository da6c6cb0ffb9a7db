"""How commands print.

Data goes to stdout, as JSON or for people; words about what went wrong go to stderr. Colour appears only on a
terminal, and never when NO_COLOR is set. `rich` is imported when a table is drawn on a terminal and not before;
into a pipe the same table is plain columns, whole lines, easy to cut and grep.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

GAP = "  "
NARROWEST_FOLD = 24


def emit(data: Any, as_json: bool, human: Callable[[], None]) -> None:
    """Print `data` as one JSON document, or let `human` print it."""
    if as_json:
        click.echo(json_text(data))
    else:
        human()


def json_text(data: Any) -> str:
    """`data` as JSON for stdout, with letters as they are where stdout has them all."""
    letters = (sys.stdout.encoding or "").lower() in ("utf-8", "utf8")
    return json.dumps(data, indent=2, ensure_ascii=not letters, default=_plain)


def json_line(value: Any) -> str:
    """A value as JSON in one line."""
    return json.dumps(value, ensure_ascii=False, default=_plain)


def use_colour() -> bool:
    """Whether stdout is a terminal whose user wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def counted(number: int, what: str) -> str:
    """``1 job``, ``2 jobs``."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under headers; None is an empty cell."""
    cells = [["" if cell is None else printable(str(cell)) for cell in row] for row in rows]
    lines = [list(headers), *cells]
    widths = [max(columns_of(line[column]) for line in lines) for column in range(len(headers))]
    if use_colour() and _fits(widths):
        _rich_table(headers, cells)
        return
    for line in lines:
        padded = [cell + " " * (width - columns_of(cell)) for cell, width in zip(line, widths, strict=True)]
        click.echo(GAP.join(padded).rstrip())


def _fits(widths: Sequence[int]) -> bool:
    """Whether the terminal is wide enough to fold nothing but the last column. A narrow one wraps whole lines."""
    needed = sum(width + len(GAP) + 1 for width in widths[:-1]) + min(widths[-1], NARROWEST_FOLD)
    return needed <= shutil.get_terminal_size().columns


def fields(pairs: Mapping[str, Any]) -> None:
    """Print `name  value` lines, the values in one column; the further lines of a value stand under its first."""
    width = max((columns_of(name) for name in pairs), default=0)
    for name, value in pairs.items():
        padded = printable(name) + " " * (width - columns_of(name))
        label = click.style(padded, bold=True) if use_colour() else padded
        first, *rest = ("" if value is None else str(value)).split("\n")
        click.echo(f"{label}{GAP}{printable(first)}".rstrip())
        for line in rest:
            click.echo(f"{' ' * width}{GAP}{printable(line)}".rstrip())


def printable(text: str) -> str:
    """The text without what would steer a terminal: whoever enqueues a job writes its name and its errors."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def columns_of(text: str) -> int:
    """How many columns of a terminal the text takes: most East Asian signs take two, combining ones none."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(sign) else 2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text
    )


def complain(text: str) -> None:
    """Print lines of trouble to stderr, without what would steer a terminal. Nobody there to read them is no trouble of
    its own."""
    sys.stdout.flush()
    try:
        for line in text.splitlines():
            click.echo(printable(line), err=True)
    except OSError:
        pass


def _rich_table(headers: Sequence[str], cells: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for place, header in enumerate(headers):
        drawn.add_column(header, overflow="fold", no_wrap=place < len(headers) - 1)
    for line in cells:
        drawn.add_row(*(Text(cell) for cell in line))
    Console(highlight=False).print(drawn)


def _plain(value: Any) -> Any:
    """What JSON has no word for: bytes as text, sets as lists, structures as objects, the rest as its text."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, set | frozenset):
        return sorted(value, key=str)
    fields_of = getattr(value, "__struct_fields__", None) or getattr(value, "__dataclass_fields__", None)
    if fields_of is not None:
        return {name: getattr(value, name) for name in fields_of}
    return str(value)
