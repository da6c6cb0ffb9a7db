"""Values that nobody should read on a page: by the names of their keys, at any depth. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

HIDDEN = "***"


def hide(value: Any, names: Collection[str]) -> Any:
    """A copy in which the value of every key with such a name, in whatever case, is `***`."""
    return _without(value, {name.casefold() for name in names})


def _without(value: Any, folded: Collection[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: HIDDEN if str(key).casefold() in folded else _without(inner, folded) for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_without(inner, folded) for inner in value]
    return value
