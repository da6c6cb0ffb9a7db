"""How commands print.

Data goes to stdout, as JSON or for people; words about what went wrong go to stderr. Colour appears only on a
terminal, and never when NO_COLOR is set. `rich` is imported when a table is drawn on a terminal and not before;
into a pipe the same table is plain columns, whole lines, easy to cut and grep.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import click

GAP = "  "


def emit(data: Any, as_json: bool, human: Callable[[], None]) -> None:
    """Print `data` as one JSON document, or let `human` print it."""
    if as_json:
        click.echo(json.dumps(data, indent=2, ensure_ascii=False, default=_plain))
    else:
        human()


def use_colour() -> bool:
    """Whether stdout is a terminal whose user wants colour."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def table(headers: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Print rows under headers; None is an empty cell."""
    cells = [["" if cell is None else str(cell) for cell in row] for row in rows]
    if use_colour():
        _rich_table(headers, cells)
        return
    widths = [max(len(line[column]) for line in [list(headers), *cells]) for column in range(len(headers))]
    for line in [list(headers), *cells]:
        click.echo(GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def fields(pairs: Mapping[str, Any]) -> None:
    """Print `name  value` lines, the values in one column."""
    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        label = click.style(name.ljust(width), bold=True) if use_colour() else name.ljust(width)
        click.echo(f"{label}{GAP}{'' if value is None else value}".rstrip())


def complain(text: str) -> None:
    """Print lines of trouble to stderr."""
    sys.stdout.flush()
    for line in text.splitlines():
        click.echo(line, err=True)


def _rich_table(headers: Sequence[str], cells: list[list[str]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for header in headers:
        drawn.add_column(header, overflow="fold")
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
