"""Loads ``lua/*.lua``, each with the prelude under its shebang, and calls them by digest."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable
from functools import cache
from importlib.resources import files
from typing import Any

import msgspec

from rrqd.store.connection import Link, ServerSaid


class Script(msgspec.Struct, frozen=True):
    """One move's program."""

    name: str
    text: str
    digest: str


@cache
def script(name: str) -> Script:
    """The program ``lua/<name>.lua`` as it is sent to the server."""
    folder = files("rrqd.store") / "lua"
    shebang, _, body = (folder / f"{name}.lua").read_text("utf-8").partition("\n")
    text = f"{shebang}\n{(folder / '_prelude.lua').read_text('utf-8')}{body}"
    return Script(name, text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())


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
