"""An attendant in a thread, for programs without an event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from rrqd.standalone.attendant import Attendant


class Background:
    """Runs what ``make`` makes in a thread with a loop of its own. ``make`` is called there."""

    def __init__(self, make: Callable[[], Attendant]) -> None:
        self._make = make
        self._ready = threading.Event()
        self._thread: threading.Thread | None = None
        self._attendant: Attendant | None = None
        self._stopped = False
        self._reason = ""
        self._fault: BaseException | None = None

    @property
    def is_alive(self) -> bool:
        """Whether it has begun and not ended."""
        return self._thread is not None and self._thread.is_alive()

    def start(self, *, horizon_seconds: float | None = None, timeout_seconds: float | None = None) -> bool:
        """Begin, and wait until the worker takes jobs or has ended. False when neither is so within
        ``timeout_seconds``; it goes on then."""
        self._thread = threading.Thread(target=self._serve, args=[horizon_seconds], name="rrqd-attendant", daemon=True)
        self._thread.start()
        return self._ready.wait(timeout_seconds)

    def stop(self, grace_seconds: float | None = None, *, wait: bool = True) -> None:
        """Let it finish what runs, at most for ``grace_seconds``. ``wait=False`` returns at once, and may be called by
        a signal handler."""
        self._stopped = True
        if self._attendant is not None:
            self._attendant.stop(grace_seconds)
        if wait and self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()

    def join(self, timeout_seconds: float | None = None) -> str:
        """Wait for the end; answers its reason, or "" when the time is over first. Raises what ended it, if that was a
        fault."""
        if self._thread is not None:
            self._thread.join(timeout_seconds)
        if self._fault is not None:
            raise self._fault
        return self._reason

    def _serve(self, horizon_seconds: float | None) -> None:
        try:
            self._reason = asyncio.run(self._run(horizon_seconds))
        except BaseException as fault:  # it is for whoever joins
            self._fault = fault
        finally:
            self._ready.set()

    async def _run(self, horizon_seconds: float | None) -> str:
        self._attendant = attendant = self._make()
        attendant.on_ready(self._ready.set)
        if self._stopped:
            attendant.stop()
        return await attendant.run(horizon_seconds=horizon_seconds)
