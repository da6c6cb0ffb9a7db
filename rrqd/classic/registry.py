"""``JobRegistry``: name -> ``async def handler(ctx, *args, **kwargs)``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rrqd.registry import Registry

Handler = Callable[..., Any]


class JobRegistry:
    """The handlers of an application. A plain ``def`` handler is run in a thread."""

    def __init__(self) -> None:
        self._entries = Registry()

    def register(self, name: str, handler: Handler, replace: bool = False) -> None:
        """Put a handler under a name. Raises ValueError when the name is blank or taken (unless ``replace``)."""
        self._entries.register(name, handler, replace)

    def unregister(self, name: str) -> None:
        """Remove a name; an unknown one is no error."""
        self._entries.unregister(name)

    def get_handler(self, name: str) -> Handler | None:
        """The handler, or ``None``."""
        return self._entries.get_handler(name)

    def get_registered_functions(self) -> list[str]:
        """All names, in the order of registration."""
        return self._entries.get_registered_functions()

    def clear(self) -> None:
        """Forget all handlers."""
        self._entries.clear()
