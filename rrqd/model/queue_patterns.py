"""Which queues a pool serves whose list has patterns: ``["*", "!slow-*", "@nightly", "mail"]``. Pure.

``*`` stands for any signs, ``!`` takes away what came before, ``@name`` stands for a list kept in the store
(``client.config``), and a plain name for itself, whether that queue has had jobs or not. The elements are gone through
in order, so later ones win; each queue stands where it came in first.

Rule: a pattern never brings a runner's own queue (``node#``), where jobs wait for that runner only.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import msgspec

#: How the key of a named list begins in the store's configuration.
LIST = "@"
NOT = "!"


def is_pattern(element: str) -> bool:
    """Whether it may stand for other names than itself."""
    return element[:1] in (LIST, NOT) or "*" in element


def plain_names(elements: Iterable[str]) -> list[str]:
    """The queues that are named as they are."""
    return [one for one in elements if not is_pattern(one)]


def read_list(text: str | None) -> list[str]:
    """A stored list: JSON; what is none counts as empty."""
    try:
        found = msgspec.json.decode(text or "[]", type=list[str])
    except msgspec.DecodeError:
        return []
    return [one for one in found if one]


def expand(elements: Iterable[str], stored: Mapping[str, str]) -> list[str]:
    """The elements without named lists; ``!@name`` takes each of a list away. A list in a list is none."""
    whole: list[str] = []
    for element in elements:
        sign, name = (NOT, element[1:]) if element.startswith(NOT) else ("", element)
        if name.startswith(LIST):
            members = [one for one in read_list(stored.get(name)) if not one.startswith((LIST, NOT + LIST))]
            whole += [sign + one for one in members if not (sign and one.startswith(NOT))]
        else:
            whole.append(element)
    return whole


def resolve(elements: Sequence[str], known: Iterable[str], stored: Mapping[str, str]) -> list[str]:
    """The queues to serve, of those that are ``known``, in order. ``stored``: the store's configuration."""
    there = sorted(name for name in known if not name.endswith("#"))
    found: dict[str, None] = {}
    for element in expand(elements, stored):
        if element.startswith(NOT):
            for name in [name for name in found if _matches(element[1:], name)]:
                del found[name]
        elif "*" in element:
            found.update(dict.fromkeys(name for name in there if name not in found and _matches(element, name)))
        else:
            found.setdefault(element)
    return list(found)


def may_serve(elements: Iterable[str], name: str) -> bool:
    """Whether a list may bring this queue. Of named lists nothing is known here, so they may bring any."""
    serves = False
    for element in elements:
        if element.startswith(NOT):
            serves = serves and not _matches(element[1:], name)
        else:
            serves = serves or element.startswith(LIST) or _matches(element, name)
    return serves


class Reach:
    """Which wake-ups concern a pool. Without patterns it is a look at a set."""

    def __init__(self, elements: Sequence[str]) -> None:
        self._elements = list(elements)
        self._names = frozenset(elements)
        self._open = any(is_pattern(one) for one in elements)

    def touches(self, names: Iterable[str]) -> bool:
        """Whether one of these queues may be the pool's."""
        if not self._open:
            return not self._names.isdisjoint(names)
        return any(may_serve(self._elements, name) for name in names)


def _matches(pattern: str, name: str) -> bool:
    if "*" not in pattern:
        return pattern == name
    return not name.endswith("#") and _compiled(pattern).fullmatch(name) is not None


@lru_cache(1024)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(".*".join(map(re.escape, pattern.split("*"))), re.DOTALL)
