"""Values that nobody should read on a page: by the names of their keys, at any depth. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

HIDDEN = "***"


def hide(value: Any, names: Collection[str]) -> Any:
    """A copy in which the value of every key with such a name, in whatever case, is `***`."""
    return _without(value, {name.casefold() for name in names})


class StillHidden(ValueError):
    """A hidden value stands where there was none: nobody knows what it stands for."""


def restore(shown: Any, stored: Any, names: Collection[str]) -> Any:
    """What somebody has made of a page's view of `stored`, with the values that the page had hidden put back.

    Raises StillHidden, which names the key."""
    return _with(shown, stored, {name.casefold() for name in names})


def _with(shown: Any, stored: Any, folded: Collection[str]) -> Any:
    if isinstance(shown, dict):
        there = stored if isinstance(stored, dict) else {}
        whole = {}
        for key, value in shown.items():
            if value == HIDDEN and str(key).casefold() in folded:
                if key not in there:
                    raise StillHidden(f"{key} is {HIDDEN}, which stands for a hidden value; write the value")
                whole[key] = there[key]
            else:
                whole[key] = _with(value, there.get(key), folded)
        return whole
    if isinstance(shown, list):
        same = isinstance(stored, list) and len(stored) == len(shown)
        return [_with(one, stored[at] if same else None, folded) for at, one in enumerate(shown)]
    return shown


def _without(value: Any, folded: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if str(key).casefold() in folded else _without(inner, folded) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_without(inner, folded) for inner in value]
    return value
