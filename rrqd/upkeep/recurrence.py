"""Makes the jobs of recurring templates when their time has come, on every node, with no leader.

A job's number is its tick: the script that writes it lets each number through once. So two nodes that look at the same
time, or one that dies between asking for jobs and moving the template on, make nothing twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rrqd.exc import InvalidRequest
from rrqd.model.recurring import Recurring, due, jobs_of
from rrqd.model.request import Defaults
from rrqd.store import Store
from rrqd.store.timetable import Ticked

if TYPE_CHECKING:
    from rrqd.config.settings import Settings


class Recurrence:
    """Looks twice a second; a template that is behind by more than one turn catches up at once."""

    name = "recurring"
    interval_seconds = 0.5

    def __init__(self, store: Store, node_id: str, settings: Settings, log: Any) -> None:
        self._store = store
        self._node_id = node_id
        self._log = log
        self.reload(settings)

    def reload(self, settings: Settings) -> None:
        """Other defaults for what a template leaves open."""
        self._defaults = Defaults(
            queue=settings.rrq.default_queue_name,
            max_params_bytes=settings.rrqd.max_params_bytes,
            correlation=dict(settings.rrq.correlation_mappings),
        )

    async def run_once(self, now: float) -> None:
        """Make what is due."""
        now_ms, templates = await self._store.due_recurring()
        for one in templates:
            await self._make(one, now_ms)

    async def _make(self, one: Recurring, now_ms: float) -> None:
        turn = due(one, now_ms)
        try:
            jobs = jobs_of(one, turn, self._defaults, self._node_id)
        except InvalidRequest as fault:  # the settings have become narrower since
            self._log.error("recurring.refused", template=one.id, why=str(fault), what_now="left out")
            jobs = []
        answers = await self._store.tick(jobs) if jobs else []
        made = sum(answer.ticked is Ticked.FIRED for answer in answers)
        moved = await self._store.advance_recurring(one, turn)
        if made:
            self._log.info("recurring.made", template=one.id, jobs=made, left_out=turn.left_out if moved else 0)
