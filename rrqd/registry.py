"""Function name -> handler. The same class as an application imports from ``rrq.registry``, plus a decorator."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar, overload

from rrqd.middleware import Middleware, around

Handler = Callable[..., Any]
H = TypeVar("H", bound=Handler)
M = TypeVar("M", bound=Middleware)


@dataclass(frozen=True, slots=True)
class HandlerPolicy:
    """What a handler says about its own jobs; ``None`` leaves it to the job, the pool, then the settings.

    ``timeout_seconds``: budget of one attempt. ``max_retries``: total attempts (RRQ's meaning).
    ``retry_delay_seconds`` / ``max_retry_delay_seconds``: base and ceiling of the back-off.
    ``on_timeout``: ``"retry"`` like any failure, or ``"bury"`` at once (RRQ's rule).
    Raises ``ValueError`` for a value that could not be obeyed.
    """

    timeout_seconds: float | None = None
    max_retries: int | None = None
    retry_delay_seconds: float | None = None
    max_retry_delay_seconds: float | None = None
    on_timeout: Literal["retry", "bury"] | None = None

    def __post_init__(self) -> None:
        for name in ("timeout_seconds", "retry_delay_seconds", "max_retry_delay_seconds"):
            value = getattr(self, name)
            if value is not None and not (type(value) in (int, float) and 0 <= value < math.inf):
                raise ValueError(f"A handler's {name} must be a number of seconds, not {value!r}.")
        if self.timeout_seconds == 0:
            raise ValueError("A handler's timeout_seconds must be positive.")
        if self.max_retries is not None and type(self.max_retries) is not int:
            raise ValueError(f"A handler's max_retries must be a whole number, not {self.max_retries!r}.")
        if self.on_timeout not in (None, "retry", "bury"):
            raise ValueError(f"A handler's on_timeout must be 'retry' or 'bury', not {self.on_timeout!r}.")


NO_POLICY = HandlerPolicy()


@dataclass(frozen=True, slots=True)
class Registered:
    """One entry: the callable, whether it must be awaited, its own policy, and what is to stand around its runs: what
    its registry has, which may yet grow, and its own."""

    name: str
    handler: Handler
    is_async: bool
    policy: HandlerPolicy
    middlewares: tuple[Sequence[Middleware], ...] = ()

    def within(self, outer: Sequence[Middleware] = ()) -> Registered:
        """The entry as it is to be run: its handler has ``outer``, and its own, around it. Without any it is itself."""
        if not outer and not any(self.middlewares):
            return self
        chain = [*outer, *(one for some in self.middlewares for one in some)]
        return replace(self, handler=around(self.handler, self.is_async, chain), middlewares=())


def is_async_callable(handler: Handler) -> bool:
    """Whether calling ``handler`` gives an awaitable: a coroutine function, or an object with an async ``__call__``."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
        getattr(handler, "__call__", None)  # noqa: B004 -- the bound method is looked at, not called
    )


class Registry:
    """Holds the handlers of an application. Not thread-safe: fill it while importing."""

    def __init__(self) -> None:
        self._entries: dict[str, Registered] = {}
        self.middlewares: list[Middleware] = []

    def register(
        self,
        name: str,
        handler: Handler,
        replace: bool = False,
        *,
        policy: HandlerPolicy = NO_POLICY,
        middleware: Sequence[Middleware] = (),
    ) -> None:
        """Put ``handler`` under ``name``. ``middleware``: context managers around its runs, inside of those of all.

        Raises ``ValueError`` if the name is blank or taken (unless ``replace``), or the handler is not callable.
        """
        if not name or not name.strip():
            raise ValueError("A handler's name cannot be blank.")
        if not callable(handler):
            raise ValueError(f"Handler for '{name}' must be a callable, not {type(handler).__name__}.")
        if name in self._entries and not replace:
            raise ValueError(f"Handler '{name}' is already registered; pass replace=True to change it.")
        self._entries[name] = Registered(
            name, handler, is_async_callable(handler), policy, (self.middlewares, tuple(middleware))
        )

    def middleware(self, function: M) -> M:
        """Decorator: a context manager around each run of every handler, made with its request; the first one is the
        outermost. See :mod:`rrqd.middleware`."""
        self.middlewares.append(function)
        return function

    @overload
    def handler(self, name: H) -> H: ...

    @overload
    def handler(
        self, name: str | None = None, *, middleware: Sequence[Middleware] = (), **policy: Any
    ) -> Callable[[H], H]: ...

    def handler(self, name: Any = None, *, middleware: Sequence[Middleware] = (), **policy: Any) -> Any:
        """Decorator: ``@registry.handler``, ``@registry.handler("name", timeout_seconds=5)``.

        Without a name the function's own is used. Keywords are ``middleware`` and those of
        :class:`HandlerPolicy`.
        """
        if callable(name):
            self.register(name.__name__, name)
            return name

        def enter(function: H) -> H:
            self.register(name or function.__name__, function, policy=HandlerPolicy(**policy), middleware=middleware)
            return function

        return enter

    def unregister(self, name: str) -> None:
        """Remove ``name``; unknown names are no error."""
        self._entries.pop(name, None)

    def get_handler(self, name: str) -> Handler | None:
        """The callable under ``name``, or ``None``."""
        entry = self._entries.get(name)
        return entry.handler if entry else None

    def get(self, name: str) -> Registered | None:
        """The whole entry under ``name``, or ``None``."""
        return self._entries.get(name)

    def get_registered_functions(self) -> list[str]:
        """All names, in the order of registration."""
        return list(self._entries)

    def clear(self) -> None:
        """Forget all handlers."""
        self._entries.clear()

    def __iter__(self) -> Iterator[Registered]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries
