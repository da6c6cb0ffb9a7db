"""Reload: a new generation, or nothing.

Reads the file, checks it, proposes a plan; `decisions` says when its molds are ready, or that it has failed. Until then
nothing is changed, so nothing has to be undone.
"""

from __future__ import annotations

from collections.abc import Callable

from rrqd import clock
from rrqd.config.loader import Loaded
from rrqd.config.settings import Settings
from rrqd.exc import ConfigError
from rrqd.logs import Logger
from rrqd.supervisor import messages
from rrqd.supervisor.acts import Crew, House
from rrqd.supervisor.children import Cause, ExitReason, Kind, Plan, State, plan_of
from rrqd.supervisor.decisions import Kill
from rrqd.supervisor.house import with_own_server
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

    def begin(self, now: float) -> None:
        """Read, check, and boot candidates. Nothing changes until their molds are ready."""
        self.notifier.reloading(clock.monotonic_ns())
        try:
            settings = self._pin(self.read_again().settings)
        except (ConfigError, OSError, ValueError) as error:
            self.failed(str(error), None)
            return
        self.newest_generation += 1
        generation = self.newest_generation
        self.house.settings[generation] = settings
        self.state.propose(plan_of(settings, generation), now)
        self.log.info("reload.begin", generation=generation)

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
        state.plan, state.candidate = plan, None
        for label in [label for label in state.backoffs if label.startswith((Kind.MOLD, Kind.WORKER))]:
            del state.backoffs[label]
        settings = self.house.settings[plan.generation]
        self.house.settings = {plan.generation: settings}
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

    def failed(self, why: str, generation: int | None) -> None:
        self.facts.last_reload = {"ok": False, "message": why, "at_ms": clock.wall_ms()}
        self.log.error("reload.failed", error=why, generation=generation, kept=self.state.plan.generation)
        self.notifier.ready(status_line(self.state))
