"""The embedded server's file, flushed to the disk from outside, by whoever looks after that server.

Its own ``appendfsync everysec`` would not do: while one flush is under way (on a busy disk, seconds) it answers writes
that it still keeps in its memory, and a server that is killed then has lost what it acknowledged. So it is told never
to flush. It then writes before it answers, and only a machine that dies takes anything along: what was written since
the last flush here.
"""

from __future__ import annotations

import os
from pathlib import Path


class Flushing:
    """Flushes what has grown. ``folder``: the server's; there need not be one."""

    name = "flushing"
    interval_seconds = 1.0

    def __init__(self, folder: Path) -> None:
        self._files = folder / "appendonlydir"
        self._flushed: dict[Path, int] = {}

    async def run_once(self, _now: float) -> None:
        """As a chore of the steward, whose loop a slow disk must not hold up."""
        import asyncio  # not for the keeper, which has no loop and is to start soon

        await asyncio.to_thread(self.flush)

    def flush(self) -> None:
        """Flush every file that is longer than the last time. Raises OSError when the disk does not take it."""
        sizes: dict[Path, int] = {}
        for path in self._files.glob("*.incr.aof"):
            try:
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # the server has rewritten its data into another one
            try:
                sizes[path] = os.fstat(fd).st_size
                if sizes[path] != self._flushed.get(path):
                    os.fsync(fd)
            finally:
                os.close(fd)
        self._flushed = sizes
