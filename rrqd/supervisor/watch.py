"""Watching the workers from outside: their beats, and where they stand when the beats stop.

Owns the pending looks into dump memfds: a worker is asked for its stacks now, and they are there a moment later.
Condemning is not done here; `decisions` does that from what is written into the rows.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rrqd import clock, stacks
from rrqd.logs import Logger
from rrqd.supervisor import decisions, messages, process
from rrqd.supervisor.acts import Crew
from rrqd.supervisor.children import Child, Kind, Phase, State

STACKS_SECONDS = 0.2
"""How long a worker gets to print its stacks before the master looks; six looks at most."""
QUIET_SECONDS = 0.4
"""A beat that is this late is the beginning of a silence, perhaps."""
STARVED_SHARE = 0.5
THREAD_LATE_SECONDS = 0.8
"""Its thread beats twice a second unless the interpreter is held."""
DUMP_SECONDS = 0.8
"""How long a dump that somebody waits for may take; whoever has not answered by then is not in it."""
STATE_LETTERS = {"T": "stopped", "t": "stopped", "D": "in the kernel"}


@dataclass(slots=True)
class Collector:
    """Somebody waits for a dump."""

    until: float
    waiting_for: set[int]
    answer: Callable[[list[dict[str, Any]]], None]
    entries: list[dict[str, Any]] = field(default_factory=list)


@dataclass(slots=True)
class Look:
    """A worker was asked for its stacks; when to look, and why."""

    at: float
    child: Child
    suspicion: dict[str, Any] | None = None
    """What was suspected at the moment of asking; it may have passed when the stacks are there."""
    looks: int = 0


class Watch:
    def __init__(self, state: State, crew: Crew, log: Logger) -> None:
        self.state = state
        self.crew = crew
        self.log = log
        self.looks: list[Look] = []
        self.collectors: list[Collector] = []

    def turn(self, now: float) -> None:
        """Read every worker's beats, and the stacks that are due."""
        for child in self.state.workers():
            if child.phase in (Phase.READY, Phase.LEAVING) and child.page >= 0 and child.ready_at is not None:
                self._read_page(child, now)
        for look in [look for look in self.looks if look.at <= now]:
            self._look(look, now)
        for collector in [one for one in self.collectors if one.until <= now]:
            self._hand_over(collector)

    @property
    def next_moment(self) -> float:
        """When `turn` has something to do again."""
        moments = [look.at for look in self.looks] + [one.until for one in self.collectors]
        return min(moments, default=math.inf)

    def _read_page(self, child: Child, now: float) -> None:
        page = self.crew.house.deck.page(child.page)
        loop_ns, thread_ns = page.beats()
        child.beat_at, child.thread_beat_at = loop_ns / 1e9, thread_ns / 1e9
        if now - child.beat_at < decisions.SUSPECT_SECONDS:
            if child.reported:
                self.log.info("worker.recovered", **self.crew.who(child))
            child.last_stack = ""
            child.reported, child.suspect_job, child.suspect_deadline, child.stopped = False, "", 0.0, False
            child.starved = False
            if now - child.beat_at > QUIET_SECONDS and not child.waited_before:
                child.waited_before = process.waited_seconds(child.pid or 0)
            elif now - child.beat_at <= QUIET_SECONDS:
                child.waited_before = 0.0
            return
        rows = page.running()
        suspect = page.snapshot().suspect
        if not suspect and len(rows) == 1:
            suspect = rows[0].job_id  # the watchdog thread may be unable to say so: the interpreter is held
        child.suspect_job = suspect
        # A page has room for the beginning of a very long id only.
        deadlines = [row.deadline_ns / 1e9 for row in rows if suspect and suspect.startswith(row.job_id)]
        child.suspect_deadline = max(deadlines, default=0.0)
        stopped = child.pid is not None and process.state_letter(child.pid) in ("T", "t")
        if child.stopped and not stopped:
            child.thawed_at = now
        child.stopped = stopped
        waited = process.waited_seconds(child.pid or 0) - (child.waited_before or math.inf)
        child.starved = waited > STARVED_SHARE * child.silent_seconds(now, self.state.trust_after)

    def _look(self, look: Look, now: float) -> None:
        if look not in self.looks:
            return  # another look at the same worker has found what both wanted
        child = look.child
        text = self.crew.read_stacks(child)
        if not text and look.looks < 5 and child.key in self.crew.handles:
            look.looks += 1
            look.at = now + STACKS_SECONDS
            return
        self.crew.clear_stacks(child)
        for one in [one for one in self.looks if one is look or (text and one.child is child)]:
            self.looks.remove(one)
            self._tell(one, text)

    def _tell(self, look: Look, text: str) -> None:
        child = look.child
        if look.suspicion is not None:
            if child.reported:
                child.last_stack = text
            self.log.warning("worker.suspect", **self.crew.who(child), **look.suspicion, stack=text)
        elif text:
            self._note("dump.stacks", {"child": child.title, "pid": child.pid, "stack": text})

    def suspect(self, child: Child, now: float) -> None:
        child.reported = True
        suspicion = self._suspicion(child, now)
        if child.stopped:  # it can't print anything now, and would do so at a bad moment later
            self.log.warning("worker.suspect", **self.crew.who(child), **suspicion)
        else:
            self.crew.ask_for_stacks(child)
            self.looks.append(Look(now + STACKS_SECONDS, child, suspicion))

    def _suspicion(self, child: Child, now: float) -> dict[str, Any]:
        letter = process.state_letter(child.pid or 0)
        trust_after = self.state.trust_after
        thread_late = now - max(child.thread_beat_at, trust_after) > THREAD_LATE_SECONDS
        return {
            "kind": STATE_LETTERS.get(letter) or _kind(child.starved, thread_late),
            "silent_seconds": round(child.silent_seconds(now, trust_after), 1),
            "job_id": child.suspect_job or None,
        }

    def everybody(self, now: float, answer: Callable[[list[dict[str, Any]]], None] | None = None) -> None:
        """Everybody says what it is doing: over its line if it can, through the fault handler if it can't. It goes
        into the log, and to whoever waits for it."""
        collector = Collector(now + DUMP_SECONDS, set(), answer) if answer is not None else None
        if collector is not None:
            self.collectors.append(collector)
        for entry in stacks.threads():
            self._note("dump.entry", {"child": "master", "pid": os.getpid(), **entry})
        for child in self.state.children.values():
            if self.crew.say(child, messages.dump()) and collector is not None:
                collector.waiting_for.add(child.key)
            if child.kind is Kind.WORKER and child.pid is not None:
                self.crew.ask_for_stacks(child)
                self.looks.append(Look(now + STACKS_SECONDS, child))

    def heard(self, child: Child, entries: list[Any]) -> None:
        """A child has said what it is doing."""
        for entry in entries:
            self._note("dump.entry", {"child": child.title, "pid": child.pid, **_plain(entry)})
        for collector in self.collectors:
            collector.waiting_for.discard(child.key)
            if not collector.waiting_for:  # all have spoken; the raw stacks are there by then
                collector.until = min(collector.until, clock.monotonic() + 2 * STACKS_SECONDS)

    def _note(self, event: str, fields: dict[str, Any]) -> None:
        self.log.info(event, **fields)
        for collector in self.collectors:
            collector.entries.append(fields)

    def _hand_over(self, collector: Collector) -> None:
        self.collectors.remove(collector)
        collector.answer(collector.entries)


def _kind(starved: bool, thread_late: bool) -> str:
    if starved:
        return "no processor"
    return "interpreter held" if thread_late else "loop blocked"


def _plain(entry: Any) -> dict[str, Any]:
    """A dump's entry as fields of a log line, without names that the line has of its own."""
    if not isinstance(entry, dict):
        return {"text": str(entry)}
    return {key: value for key, value in entry.items() if key not in ("child", "pid", "level", "event")}
