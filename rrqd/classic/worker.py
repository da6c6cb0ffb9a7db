"""``RRQWorker``: the first API's worker; an attendant of rrqd is what works."""

from __future__ import annotations

import asyncio
import dis
import sys
import uuid
from collections.abc import Coroutine, Sequence
from types import FrameType
from typing import Any

from rrqd.classic import constants
from rrqd.classic.client import RRQClient
from rrqd.classic.registry import JobRegistry
from rrqd.classic.running import handlers_of, pool_of, settings_of
from rrqd.classic.settings import RRQSettings
from rrqd.classic.store import JobStore
from rrqd.standalone import Attendant

#: What a statement does with a value nobody wants (and the interactive prompt, which prints it).
_DROPS = ("POP_TOP", "PRINT_EXPR")
_PRINTS = ("CALL_INTRINSIC_1",)
_NOTHING = ("CACHE", "NOP", "EXTENDED_ARG")


class RRQWorker:
    """Runs jobs of its queues in this process until told to stop (INT, TERM, :meth:`stop`); with ``burst`` until its
    queues have nothing due. One object is run once."""

    def __init__(
        self,
        settings: RRQSettings,
        job_registry: JobRegistry,
        queues: Sequence[str] | None = None,
        worker_id: str | None = None,
        burst: bool = False,
    ) -> None:
        self.settings = settings
        self.job_registry = job_registry
        self.queues = list(queues) if queues else [settings.default_queue_name]
        self.worker_id = worker_id or f"{constants.DEFAULT_WORKER_ID_PREFIX}{uuid.uuid4().hex}"
        self.burst = burst
        self.status = "initializing"
        self.job_store = JobStore(settings)
        self.client = RRQClient(settings, job_store=self.job_store)
        handlers = handlers_of(settings, job_registry, lambda: self.client)
        self._attendant = Attendant(
            settings_of(settings), pool_of(settings, self.queues), handlers,
            pool_name="classic", worker_id=self.worker_id,
        )  # fmt: skip
        self._attendant.on_ready(self._is_ready)

    def run(self) -> Coroutine[Any, Any, None]:
        """Work. ``await worker.run()`` and ``asyncio.run(worker.run())`` as with any coroutine; a bare statement
        ``worker.run()`` where no event loop runs blocks until the worker has ended."""
        if _is_bare(sys._getframe(1)) and not _in_a_loop():
            asyncio.run(self._run())
            over = _nothing()
            over.close()  # nobody looks at it, and nobody is warned that it was not awaited
            return over
        return self._run()

    async def _run(self) -> None:
        try:
            with self._attendant.obeying_signals():
                await self._attendant.run(horizon_seconds=0.0 if self.burst else None)
        finally:
            self.status = "stopped"
            await self.job_store.aclose()

    def stop(self) -> None:
        """Finish what runs, for at most ``worker_shutdown_grace_period_seconds``, and end. From any thread."""
        self._attendant.stop()

    async def close(self) -> None:
        """Close the connections of a worker that has ended or never ran."""
        await self.job_store.aclose()

    def _is_ready(self) -> None:
        self.status = "running"


async def _nothing() -> None:
    """What a call that has blocked answers."""


def _in_a_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_bare(frame: FrameType) -> bool:
    """Whether the call that this frame is making stands alone as a statement, so that nobody can await its answer."""
    for step in dis.get_instructions(frame.f_code):
        if step.offset <= frame.f_lasti or step.opname in _NOTHING:
            continue
        return step.opname in _DROPS or (step.opname in _PRINTS and step.argrepr == "INTRINSIC_PRINT")
    return False
