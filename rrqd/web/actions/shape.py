"""What an action is, and whether what was said fits it.

Each action is a function that says how many things it changed; whoever carries one out writes that into the audit. One
that can't be carried out is `Refused` with a sentence. Destructive actions on many jobs want something typed
(`confirm`): the number that the page showed, or the name of what is to be cleared, so that nobody throws away more than
was seen.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rrqd.local_socket import ask
from rrqd.web.readings import Readings

Words = Mapping[str, Any]
MASTER_SECONDS = 10.0
LARGEST = 2**53
TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,500}")


class Refused(Exception):
    """It can't be done. One sentence, and the HTTP status that fits."""

    def __init__(self, why: str, status: int = 409) -> None:
        super().__init__(why)
        self.status = status


@dataclass(frozen=True, slots=True)
class Field:
    """One thing that an action is told. `kind`: text, whole, number, flag, texts, object. `least`: of a number."""

    kind: str
    what: str
    needed: bool = True
    least: float = -LARGEST


@dataclass(frozen=True, slots=True)
class Action:
    """`targets`: the fields that name what it is about, for the audit. `done`: how a page says it, with `{count}`."""

    name: str
    what: str
    done: str
    targets: tuple[str, ...]
    fields: dict[str, Field]
    carry_out: Callable[[Hands, Words], Awaitable[dict[str, Any]]] = field(repr=False)

    def target(self, words: Words) -> str:
        """What these words are about."""
        named = [(name, words[name]) for name in self.targets if name in words]
        if len(self.targets) == 1:
            return _shown(named[0][1])
        return ", ".join(f"{name}={_shown(value)}" for name, value in named) or "all"

    def told(self, answer: Mapping[str, Any]) -> str:
        """What became of it, in words."""
        count = answer["count"]
        return self.done.format(count=count, jobs="1 job" if count == 1 else f"{count} jobs")


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else f"{len(value)} jobs"


class Hands:
    """What actions work with. `state_dir`: where the master's control socket is."""

    def __init__(self, readings: Readings, state_dir: Path) -> None:
        self.readings = readings
        self.store = readings.store
        self.state_dir = state_dir

    async def tell_master(self, **question: Any) -> dict[str, Any]:
        """Ask the daemon of this machine. Raises Refused with its reason."""
        try:
            answer = await asyncio.to_thread(ask, self.state_dir, question, MASTER_SECONDS)
        except OSError as fault:
            raise Refused(f"the daemon's control socket does not answer: {fault}", 503) from None
        if not answer.get("ok"):
            raise Refused(str(answer.get("error") or "the daemon refused"))
        return answer


ACTIONS: dict[str, Action] = {}
Carry = Callable[[Hands, Words], Awaitable[dict[str, Any]]]


def action(name: str, targets: str, done: str, **fields: Field) -> Callable[[Carry], Carry]:
    """Enter a function into the table; its docstring says what it does."""

    def enter(carry_out: Carry) -> Carry:
        what = " ".join((carry_out.__doc__ or "").split())
        ACTIONS[name] = Action(name, what, done, tuple(targets.split()), fields, carry_out)
        return carry_out

    return enter


def check(known: Action, said: Any) -> dict[str, Any]:
    """The words of a request, if they are what the action needs. Raises Refused (422) with what is wrong."""
    if not isinstance(said, dict):
        raise Refused("the body must be a JSON object", 422)
    for name in said:
        if name not in known.fields:
            raise Refused(f"{known.name} knows no {name!r}; it takes {', '.join(known.fields)}", 422)
    words: dict[str, Any] = {}
    for name, one in known.fields.items():
        if name in said:
            words[name] = _fitting(name, one, said[name])
        elif one.needed:
            raise Refused(f"{name} is missing: {one.what}", 422)
    return words


def _fitting(name: str, one: Field, value: Any) -> Any:
    if one.kind == "whole" and isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON has one kind of number: 3.0 is 3
    if not _fits(one.kind, value):
        raise Refused(f"{name} must be {KINDS[one.kind]}: {one.what}", 422)
    if one.kind in ("whole", "number") and value < one.least:
        raise Refused(f"{name} must be {one.least:g} or more: {one.what}", 422)
    return value


KINDS = {
    "text": "a text of 1 to 500 characters, none of them a control character",
    "whole": "a whole number",
    "number": "a number",
    "flag": "true or false",
    "texts": "a list of texts",
    "object": "a JSON object",
}


def _fits(kind: str, value: Any) -> bool:
    if kind == "texts":
        return isinstance(value, list) and bool(value) and all(_fits("text", one) for one in value)
    if kind == "text":
        return isinstance(value, str) and TEXT.fullmatch(value) is not None
    if kind == "flag":
        return isinstance(value, bool)
    if kind == "object":
        return isinstance(value, dict)
    if isinstance(value, bool):
        return False
    return isinstance(value, int if kind == "whole" else (int, float)) and -LARGEST <= value <= LARGEST
