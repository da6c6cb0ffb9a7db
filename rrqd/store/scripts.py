"""Loads ``lua/*.lua`` and calls them by digest.

Under the shebang of each lie the prelude and the shared pieces that the script's header names (``-- With: _places``),
in that order.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Awaitable
from importlib.resources import files
from typing import Any

import msgspec

from rrqd.store.connection import Link, ServerSaid


class Script(msgspec.Struct, frozen=True):
    """One move's program."""

    name: str
    text: str
    digest: str


def _load() -> dict[str, Script]:
    folder = files("rrqd.store") / "lua"
    texts = {file.name: file.read_text("utf-8") for file in folder.iterdir() if file.name.endswith(".lua")}
    found = {}
    for file, whole in texts.items():
        if file.startswith("_"):
            continue
        shebang, _, body = whole.partition("\n")
        named = re.search(r"(?m)^-- With: (.+)$", body)
        below = ["_prelude", *(named[1].split() if named else ())]
        text = "\n".join([shebang, *(texts[f"{piece}.lua"] for piece in below), body])
        name = file.removesuffix(".lua")
        found[name] = Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())
    return found


_PROGRAMS = _load()
"""All of them, as they are when this module is imported, and not when each is first used: after an upgrade of the
package under a running daemon, a worker's old Python would call new Lua."""


def script(name: str) -> Script:
    """The program ``lua/<name>.lua`` as it is sent to the server."""
    return _PROGRAMS[name]


def digests() -> dict[str, str]:
    """Digest -> name of all programs: how they stand in a server's slow log."""
    return {one.digest: one.name for one in _PROGRAMS.values()}


def run(link: Link, name: str, anchor: str, *args: Any) -> Awaitable[Any]:
    """Run a move. It is sent now (so that two calls made one after the other travel together), awaited later.

    A server that does not know the script yet says so before running anything; then it is sent whole, once.
    """
    program = script(name)
    return _finish(link, program, anchor, args, link.call("EVALSHA", program.digest, 1, anchor, *args))


async def _finish(link: Link, program: Script, anchor: str, args: tuple[Any, ...], first: Awaitable[Any]) -> Any:
    try:
        return await first
    except ServerSaid as said:
        if said.code != "NOSCRIPT":
            raise
    return await link.call("EVAL", program.text, 1, anchor, *args)
