"""The end of a child: read its last words, say why it ended, tell the steward, collect it, write the dossier.

The order matters. The flight page and the dump memfd are read before anybody else may move into them; the steward hears
of a worker's death before its exit is collected, so that its jobs are on their way back as early as can be.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from typing import Any

from rrqd import clock
from rrqd.logs import Logger
from rrqd.supervisor import process
from rrqd.supervisor.acts import Crew
from rrqd.supervisor.children import Cause, Child, ExitReason, Kind, Mode, Phase, State, exit_reason
from rrqd.supervisor.dossier import Dossiers, story
from rrqd.supervisor.memory import GroupMemory, Kills


class Ends:
    """`hear`: reads what a child has said and the master has not yet heard."""

    def __init__(
        self,
        state: State,
        crew: Crew,
        dossiers: Dossiers,
        log: Logger,
        group: GroupMemory | None,
        hear: Callable[[Child, float], None],
    ) -> None:
        self.state = state
        self.crew = crew
        self.dossiers = dossiers
        self.log = log
        self.kills = Kills(group)
        self._hear = hear

    def ended(self, child: Child, now: float) -> None:
        """A child's pidfd is readable. What it said last is read first: it may explain its end."""
        handles = self.crew.handles[child.key]
        try:
            gone = process.peek(handles.pidfd)
        except ChildProcessError:
            gone = process.Gone(child.pid or 0, None, None)
        if gone is None:
            return
        self._hear(child, now)
        self.bury(child, gone)

    def bury(self, child: Child, gone: process.Gone | None) -> None:
        """A child is gone, or was never born (`gone` is None)."""
        now = clock.monotonic()
        if child.key not in self.crew.handles:
            return
        reason = self._reason(child, gone)
        calm = reason.planned or child.phase is Phase.LEAVING
        aboard = self.crew.aboard(child, now)
        fields = self.crew.last_facts(child, reason, aboard)
        dossier = None
        if gone is not None and not reason.planned:
            dossier = {**self._dossier(child, gone, reason, fields, now), "running": aboard}
        if child.kind is Kind.WORKER:
            self.crew.report_death(child, reason, story(dossier) if dossier else None)
        say = self.log.info if calm else self.log.error
        say(f"{child.kind.value}.{'left' if calm else 'died'}", **self.crew.who(child), reason=str(reason), **fields)
        usage = self._collect(child, gone)
        jobs = self.crew.jobs_done(child) if child.kind is Kind.WORKER else 0
        self.state.died(child, reason, now, random.random(), fields.get("detail", ""), jobs)
        self.crew.forget(child)
        if dossier is not None:
            self.dossiers.add({**dossier, "usage": usage})
        if child.kind is Kind.MOLD:
            self._bury_unborn(child)

    def lost(self, child: Child) -> None:
        """SIGKILL did not end it: it is stuck in the kernel and will never run a line of code again. So its jobs go
        back now, and its slot is filled; its real end may come any time."""
        self.log.error("worker.lost" if child.kind is Kind.WORKER else "child.lost", **self.crew.who(child))
        if child.kind is Kind.WORKER and child.kill_reason is not None:
            self.crew.report_death(child, child.kill_reason, None)

    def _reason(self, child: Child, gone: process.Gone | None) -> ExitReason:
        if gone is None:
            return ExitReason(Cause.BOOT_ERROR)
        reason = exit_reason(child, gone.code, gone.signal, self.state.mode is Mode.STOP)
        # Somebody sent SIGKILL, and it was not us.
        if reason == ExitReason(Cause.CRASH_SIGNAL, signal.SIGKILL) and self.kills.explain_one():
            return ExitReason(Cause.OOM)
        return reason

    def _collect(self, child: Child, gone: process.Gone | None) -> dict[str, Any]:
        if gone is None or child.pid is None:
            return {}
        if child.kind is Kind.WORKER:
            self._end_leftovers(child, child.pid)
        return process.collect(child.pid)

    def _end_leftovers(self, child: Child, pid: int) -> None:
        """What its jobs have started and not ended. Before the exit is collected: the group is surely its own."""
        process.kill_leftovers(pid)
        if self.crew.leaves is not None:
            self.crew.leaves.end(child.worker_id)

    def _dossier(
        self, child: Child, gone: process.Gone, reason: ExitReason, fields: dict[str, Any], now: float
    ) -> dict[str, Any]:
        number = gone.signal
        return {
            "at": clock.iso(clock.wall_ms()),
            "who": child.title,
            **self.crew.who(child),
            "reason": str(reason),
            "code": gone.code,
            "signal": signal.Signals(number).name if number else None,
            "age_seconds": round(now - child.started_at, 1),
            "jobs_done": fields.get("jobs_done"),
            "culprit": child.culprit,
            "private_bytes": child.private_bytes or None,
            "memory_trail": child.memory_trail[-10:],
            "stack": self.crew.read_stacks(child) or child.last_stack,
            "detail": fields.get("detail", ""),
        }

    def _bury_unborn(self, mold: Child) -> None:
        """Workers that this mold was asked for and that have not shown up will not come any more. One that was forked
        just before the mold died finds the other end of its line closed, and leaves."""
        for worker in list(self.state.workers()):
            if worker.pid is None and worker.generation == mold.generation:
                pool = self.state.plan.pools.get(worker.name)
                if pool is None or pool.mold == mold.name:
                    self.bury(worker, None)
