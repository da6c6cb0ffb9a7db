"""Reload: a new generation, or nothing.

Reads the file, checks it, proposes a plan; `decisions` says when its molds are ready, or that it has failed. Until then
nothing is changed, so nothing has to be undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rrqd import clock
from rrqd.config.loader import Loaded
from rrqd.config.settings import Settings
from rrqd.exc import ConfigError
from rrqd.logs import Logger
from rrqd.supervisor import messages
from rrqd.supervisor.actions import Kill
from rrqd.supervisor.acts import Crew
from rrqd.supervisor.births import House
from rrqd.supervisor.children import Cause, ExitReason, Kind, State
from rrqd.supervisor.control import Reply
from rrqd.supervisor.house import with_own_server
from rrqd.supervisor.plans import Plan, keeping, plan_of
from rrqd.supervisor.systemd import Notifier
from rrqd.supervisor.view import Facts, status_line

PINNED = ("state_dir", "http", "embedded", "embedded_address", "embedded_binary", "namespace")
"""Keys of [rrqd] that belong to the running master; a reload can't change them."""


class Reloads:
    def __init__(
        self,
        house: House,
        state: State,
        crew: Crew,
        facts: Facts,
        notifier: Notifier,
        log: Logger,
        read_again: Callable[[], Loaded],
    ) -> None:
        self.house = house
        self.state = state
        self.crew = crew
        self.facts = facts
        self.notifier = notifier
        self.log = log
        self.read_again = read_again
        self.newest_generation = state.plan.generation
        self._waiting: list[Reply] = []

    def begin(self, now: float, config_only: bool = False, reply: Reply | None = None) -> None:
        """Read, check, and boot candidates. Nothing changes until their molds are ready.

        `config_only`: pools whose settings are as before keep their workers; without it all are replaced, since their
        code may have changed. `reply` is told how it ended.
        """
        self.notifier.reloading(clock.monotonic_ns())
        try:
            settings = self._pin(self.read_again().settings)
        except (ConfigError, OSError, ValueError) as error:
            # Whoever waits for a candidate that is booting goes on waiting for it.
            self._note_failure(str(error), None)
            if reply is not None:
                reply(self._no(str(error)))
            return
        if reply is not None:
            self._waiting.append(reply)
        self.newest_generation += 1
        generation = self.newest_generation
        self.house.settings[generation] = settings
        plan = plan_of(settings, generation)
        unchanged = self._unchanged(settings, plan) if config_only else []
        self.state.propose(keeping(plan, self.state.plan, unchanged), now)
        self.log.info("reload.begin", generation=generation, **self._differences(settings), kept=unchanged or None)

    def _unchanged(self, settings: Settings, plan: Plan) -> list[str]:
        """Pools for which nothing is different: neither their own table, nor anything that all share."""
        before = self.state.plan
        unchanged = []
        for name, pool in settings.rrqd.pools.items():
            there = before.pools.get(name)
            if there is None:
                continue
            ours = self.house.settings[there.generation]
            if pool == ours.rrqd.pools.get(name) and _shared(settings) == _shared(ours):
                unchanged.append(name)
        return unchanged

    def _differences(self, settings: Settings) -> dict[str, list[str]]:
        """For the log: which pools come, go and change."""
        ours, theirs = self.house.settings[self.state.plan.generation].rrqd.pools, settings.rrqd.pools
        found = {
            "added": [name for name in theirs if name not in ours],
            "removed": [name for name in ours if name not in theirs],
            "changed": [name for name in theirs if name in ours and theirs[name] != ours[name]],
        }
        return {word: names for word, names in found.items() if names}

    def _pin(self, settings: Settings) -> Settings:
        """What belongs to the running master stays as it is; a wish to change it is reported."""
        ours = self.house.settings[self.state.plan.generation]
        changed = [key for key in PINNED if getattr(settings.rrqd, key) != getattr(ours.rrqd, key)]
        kept = {key: getattr(ours.rrqd, key) for key in PINNED}
        settings = settings.model_copy(update={"rrqd": settings.rrqd.model_copy(update=kept)})
        if self.house.embedded is None and settings.rrq.redis_dsn != ours.rrq.redis_dsn:
            changed.append("redis_dsn")
            rrq = settings.rrq.model_copy(update={"redis_dsn": ours.rrq.redis_dsn})
            settings = settings.model_copy(update={"rrq": rrq})
        if changed:
            self.log.warning("reload.needs_restart", keys=changed)
        return with_own_server(settings, self.house)

    def adopt(self, plan: Plan) -> None:
        state, before = self.state, self.state.plan
        plan = self._with_sizes(plan)
        state.plan, state.candidate = plan, None
        for label in [label for label in state.backoffs if label.startswith((Kind.MOLD, Kind.WORKER))]:
            del state.backoffs[label]
        settings = self.house.settings[plan.generation]
        wanted = {plan.generation, *(pool.generation for pool in plan.pools.values())}
        self.house.settings = {key: value for key, value in self.house.settings.items() if key in wanted}
        message = messages.reload(settings.to_json(), plan.generation)
        self.crew.tell(Kind.WEB, message)
        if {name: pool.queues for name, pool in before.pools.items()} == {
            name: pool.queues for name, pool in plan.pools.items()
        }:
            self.crew.tell(Kind.STEWARD, message)
        else:
            # New pools mean new descriptors, which only a new steward can be given; losing one is harmless.
            steward = state.service(Kind.STEWARD)
            if steward is not None:
                self.crew.kill(Kill(steward, ExitReason(Cause.PLANNED)), clock.monotonic())
        self.facts.last_reload = {"ok": True, "message": "", "at_ms": clock.wall_ms()}
        self.log.info("reload.done", generation=plan.generation)
        self.notifier.ready(status_line(state))
        self._answer({"ok": True, "generation": plan.generation})

    def _with_sizes(self, plan: Plan) -> Plan:
        """A size that was asked for by hand stays while the file's own is the same; otherwise the file has the word."""
        sizes = {}
        for name, (in_file, asked) in self.state.sizes.items():
            pool = plan.pools.get(name)
            if pool is None:
                continue
            # One that is left alone has what it had, perhaps asked for while the molds of the others were booting.
            left_alone = pool.generation != plan.generation
            if left_alone or in_file == pool.processes:
                sizes[name] = (in_file, asked)
                plan = replace(plan, pools={**plan.pools, name: replace(pool, processes=asked)})
        self.state.sizes = sizes
        return plan

    def _answer(self, answer: dict[str, Any]) -> None:
        waiting, self._waiting = self._waiting, []
        for reply in waiting:
            reply(answer)

    def failed(self, why: str, generation: int | None) -> None:
        """The candidate is given up; everything stays as it is."""
        self._note_failure(why, generation)
        self._answer(self._no(why))

    def stopped(self) -> None:
        """The daemon stops; a candidate that was booting will not come."""
        self._answer(self._no("the daemon is stopping"))

    def _note_failure(self, why: str, generation: int | None) -> None:
        self.facts.last_reload = {"ok": False, "message": why, "at_ms": clock.wall_ms()}
        self.log.error("reload.failed", error=why, generation=generation, kept=self.state.plan.generation)
        self.notifier.ready(status_line(self.state))

    def _no(self, why: str) -> dict[str, Any]:
        return {"ok": False, "error": why, "kept": self.state.plan.generation}


def _shared(settings: Settings) -> tuple[Any, Any]:
    """All that is not a pool's own."""
    return settings.rrq, settings.rrqd.model_copy(update={"pools": {}})
