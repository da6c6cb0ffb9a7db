"""Several worker processes side by side: ``rrqd worker run --num-workers N``.

Each is a whole ``rrqd worker run`` of its own. This process starts them, passes signals on, and starts another in the
place of one that died. When it dies itself, however that is, they are told to stop. It is no daemon: for limits,
reloads and recycling there is ``rrqd``.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Sequence

import structlog

from rrqd.tether import tether

RESTART_SECONDS = 1.0
#: One that dies sooner has not begun to work; so often in a row, and it never will.
YOUNG_SECONDS = 20.0
MOST_YOUNG_DEATHS = 3


class Crew:
    """``size`` processes of ``command``."""

    def __init__(self, command: Sequence[str], size: int) -> None:
        self._command = command
        self._size = size
        self._log = structlog.get_logger()
        self._stopping = asyncio.Event()
        self._processes: set[asyncio.subprocess.Process] = set()

    async def run(self) -> int:
        """Until all have ended, by a signal or by themselves. Answers 0, or 1 when they die as soon as they begin."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._pass_on, number)
        codes = await asyncio.gather(*(self._keep(place) for place in range(self._size)))
        return max(codes)

    def _pass_on(self, number: int) -> None:
        """A terminal's Ctrl-C reaches the processes by itself, but only those in its group: they are their own."""
        self._stopping.set()
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(number)

    async def _keep(self, place: int) -> int:
        young_deaths = 0
        while not self._stopping.is_set():
            began = asyncio.get_running_loop().time()
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=tether(signal.SIGTERM),
            )
            self._processes.add(process)
            code = await process.wait()
            self._processes.discard(process)
            if code == 0:
                return 0
            self._log.error("worker.died", place=place, code=code)
            young = asyncio.get_running_loop().time() - began < YOUNG_SECONDS
            young_deaths = young_deaths + 1 if young else 0
            if young_deaths >= MOST_YOUNG_DEATHS:
                self._log.error("crew.gives_up", place=place, why=f"it died {young_deaths} times as soon as it began")
                self._pass_on(signal.SIGTERM)
                return 1
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), RESTART_SECONDS)
        return 0
