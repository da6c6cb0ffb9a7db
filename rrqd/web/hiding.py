"""Values that nobody should read on a page: by the names of their keys, at any depth. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

HIDDEN = "***"


def hide(value: Any, names: Collection[str]) -> Any:
    """A copy in which the value of every key with such a name, in whatever case, is `***`."""
    if isinstance(value, dict):
        return {key: HIDDEN if str(key).lower() in names else hide(inner, names) for key, inner in value.items()}
    if isinstance(value, list):
        return [hide(inner, names) for inner in value]
    return value
