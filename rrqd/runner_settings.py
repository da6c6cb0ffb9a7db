"""What a pool's ``handlers`` may point to: a Registry, with what to do when a worker starts and stops."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from rrqd.registry import Registry

Hook = Callable[[], Awaitable[None] | None]


@dataclass(kw_only=True)
class PythonRunnerSettings:
    """RRQ's runner settings.

    ``on_startup`` runs in each worker process before its first job (after the fork: open connections here);
    ``on_shutdown`` after its last one. Both may be plain or async. A failing start-up hook keeps the worker
    from taking jobs and counts as a boot error.
    """

    registry: Registry = field(default_factory=Registry)
    on_startup: Hook | None = None
    on_shutdown: Hook | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.registry, Registry):
            raise TypeError(f"registry must be a Registry, not {type(self.registry).__name__}")
