"""What an operator can say over the control socket: one method a command, each short, none waits.

A command that can't be carried out is `Refused` with a sentence that says why and what is possible. Answers that take
time (a reload, a dump) are given by whoever has them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import rrqd
from rrqd import clock
from rrqd.logs import Logger
from rrqd.supervisor.autoscale import Size
from rrqd.supervisor.children import Child, Mode, Phase, State
from rrqd.supervisor.control import Reply
from rrqd.supervisor.dossier import Dossiers
from rrqd.supervisor.pauses import Pauses
from rrqd.supervisor.plans import PoolPlan
from rrqd.supervisor.reloads import Reloads
from rrqd.supervisor.upgrade import Upgrade
from rrqd.supervisor.view import Facts, view
from rrqd.supervisor.watch import Watch

Question = dict[str, Any]
BY_HAND = "restart by hand"


class Refused(Exception):
    """The command can't be carried out. One sentence for the operator."""


class Verbs:
    """`stop`: called with how urgent it is, 0 to 2. `busy`: how full a worker is, 0 to 1. `most`: processes that fit
    at all."""

    def __init__(
        self,
        state: State,
        facts: Facts,
        watch: Watch,
        reloads: Reloads,
        upgrade: Upgrade,
        dossiers: Dossiers,
        pauses: Pauses,
        log: Logger,
        stop: Callable[[int], None],
        busy: Callable[[Child], float],
        most: int,
    ) -> None:
        self.state = state
        self.facts = facts
        self.watch = watch
        self.reloads = reloads
        self._upgrade = upgrade
        self.dossiers = dossiers
        self.pauses = pauses
        self.log = log
        self._stop = stop
        self._most = most
        self._busy = busy
        self._sizes: dict[str, Size] = {}
        self._table: dict[str, Callable[[Question, Reply], None]] = {
            "status": self.status,
            "reload": self.reload,
            "upgrade": self.upgrade,
            "scale": self.scale,
            "pause": self.pause,
            "resume": self.resume,
            "restart": self.restart,
            "dump": self.dump,
            "crashes": self.crashes,
            "stop": self.stop,
        }

    def handle(self, question: Question, reply: Reply) -> None:
        """Carry a command out, or say why not."""
        name = str(question.get("command"))
        verb = self._table.get(name)
        if verb is None:
            reply({"ok": False, "error": f'there is no command "{name}"; there are {", ".join(self._table)}'})
            return
        if name not in ("status", "crashes"):
            said = {key: value for key, value in question.items() if value is not None and key != "command"}
            self.log.info("control.command", command=name, words=said or None)
        try:
            verb(question, reply)
        except Refused as refusal:
            reply({"ok": False, "error": str(refusal)})
        except Exception as fault:  # nothing that somebody says here may be the end of the master
            self.log.exception("control.broken", command=name)
            reply({"ok": False, "error": f"a mistake in rrqd: {type(fault).__name__}: {fault}"})

    def status(self, _question: Question, reply: Reply) -> None:
        """The master's view."""
        shown = view(self.state, self.facts, clock.monotonic(), clock.wall_ms())
        reply({"ok": True, "version": rrqd.__version__, "status": shown})

    def reload(self, question: Question, reply: Reply) -> None:
        """A new generation, or nothing; the answer comes when that is known."""
        self._only_while_running()
        self.reloads.begin(clock.monotonic(), config_only=bool(question.get("config_only")), reply=reply)

    def upgrade(self, _question: Question, reply: Reply) -> None:
        """Become the rrqd that is installed now; the answer comes when that is certain, or refused."""
        self._only_while_running()
        self._upgrade.begin(clock.monotonic(), reply)

    def scale(self, question: Question, reply: Reply) -> None:
        """`pool` to `processes`, or by `change`."""
        self._only_while_running()
        pool = self._pool(question.get("pool"))
        wanted, change = question.get("processes"), question.get("change")
        if type(wanted) is not int:
            if type(change) is not int:
                raise Refused("say how many processes: a whole number")
            wanted = pool.processes + change
        self.resize(pool, wanted)
        reply({"ok": True, "pool": pool.name, "processes": wanted, "before": pool.processes})

    def resize(self, pool: PoolPlan, wanted: int) -> None:
        """Another number of workers, until a reload brings another number in the file."""
        others = self.state.plan.workers - pool.processes
        if wanted < 1:
            raise Refused(f"pool {pool.name} keeps at least one process; rrqd pause {pool.name} makes it take no jobs")
        if wanted + others > self._most:
            raise Refused(f"this daemon has room for {self._most} workers; {self._most - others} of them here")
        file_size = self.state.sizes.get(pool.name, (pool.processes, 0))[0]
        self.state.sizes[pool.name] = (file_size, wanted)
        pools = {**self.state.plan.pools, pool.name: replace(pool, processes=wanted)}
        self.state.plan = replace(self.state.plan, pools=pools)
        self.log.info("pool.scaled", pool=pool.name, processes=wanted, before=pool.processes)

    def backlog(self, oldest_seconds: Mapping[str, float]) -> None:
        """The steward has looked at the queues: pools that scale themselves take the size that fits."""
        if self.state.mode is not Mode.RUN:
            return
        now = clock.monotonic()
        for name, oldest in oldest_seconds.items():
            pool = self.state.plan.pools.get(name)
            if pool is None or pool.scaling is None or self.state.is_paused(name):
                continue
            busy = sum(self._busy(one) for one in self.state.workers() if one.name == name)
            size = self._sizes.setdefault(name, Size()).advise(now, pool.scaling, pool.processes, oldest, busy)
            if size != pool.processes:
                self.log.info("pool.scaling", pool=name, oldest_seconds=round(oldest, 1), busy=round(busy, 1))
                self._try_to_resize(pool, size)

    def nudge(self, change: int) -> None:
        """SIGTTIN and SIGTTOU: one more or one less, in the pool `default`, or else in the first."""
        pools = self.state.plan.pools
        if not change or not pools or self.state.mode is not Mode.RUN:
            return
        pool = pools.get("default") or next(iter(pools.values()))
        self._try_to_resize(pool, pool.processes + change)

    def _try_to_resize(self, pool: PoolPlan, wanted: int) -> None:
        try:
            self.resize(pool, wanted)
        except Refused as refusal:
            self.log.warning("pool.not_scaled", pool=pool.name, why=str(refusal))

    def pause(self, question: Question, reply: Reply) -> None:
        """A pool, or all of them, take no more jobs; what runs goes on. The answer comes when that is so."""
        name = question.get("pool")
        pools = list(self.state.plan.pools) if name is None else [self._pool(name).name]
        self.state.paused.update(pools)

        def answer(unheard: list[str]) -> None:
            reply({"ok": True, "paused": self._paused(), "unheard": unheard})

        self.pauses.begin(clock.monotonic(), pools, answer)

    def resume(self, question: Question, reply: Reply) -> None:
        """The opposite of `pause`; without a pool, all that were paused."""
        if question.get("pool") is None:
            self.quieten(False)
            self.state.paused.clear()
        else:
            name = self._pool(question["pool"]).name
            if self.state.quiet:
                raise Refused("the whole node is quiet (SIGTSTP); rrqd resume, without a pool, ends that")
            self.state.paused.discard(name)
        reply({"ok": True, "paused": self._paused(), "unheard": []})

    def quieten(self, quiet: bool) -> None:
        """SIGTSTP and SIGCONT: the whole node."""
        if self.state.quiet != quiet:
            self.state.quiet = quiet
            self.log.info("node.quiet" if quiet else "node.resumed")

    def restart(self, question: Question, reply: Reply) -> None:
        """Fresh workers of the same generation, a few at a time: of one slot, one pool, or all."""
        self._only_while_running()
        name, slot = question.get("pool"), question.get("slot")
        pool = self._pool(name) if name is not None else None
        marked = [
            one
            for one in self.state.workers()
            if one.phase in (Phase.STARTING, Phase.READY)
            and (pool is None or one.name == pool.name)
            and (slot is None or one.slot == slot)
        ]
        if not marked:
            raise Refused(f"no worker serves in {name or 'any pool'}" + (f", slot {slot}" if slot is not None else ""))
        for worker in marked:
            worker.worn = worker.worn or BY_HAND
        reply({"ok": True, "workers": [f"{one.name}/{one.slot}" for one in marked]})

    def dump(self, _question: Question, reply: Reply) -> None:
        """Threads and tasks of everybody, into the log and back to who asked."""
        self.watch.everybody(clock.monotonic(), lambda entries: reply({"ok": True, "entries": entries}))

    def crashes(self, question: Question, reply: Reply) -> None:
        """The latest dossiers."""
        limit = question.get("limit")
        reply({"ok": True, "crashes": self.dossiers.recent(limit if isinstance(limit, int) else 20)})

    def stop(self, question: Question, reply: Reply) -> None:
        """As the signals do: drain, or hand back at once, or kill."""
        step = question.get("step")
        self._stop(step if step in (1, 2) else 0)
        reply({"ok": True, "seconds": self.state.plan.limits.stop_seconds})

    def _pool(self, name: Any) -> PoolPlan:
        pools = self.state.plan.pools
        if not isinstance(name, str) or name not in pools:
            raise Refused(f'there is no pool "{name}"; there are {", ".join(pools) or "none"}')
        return pools[name]

    def _paused(self) -> list[str]:
        return [name for name in self.state.plan.pools if self.state.is_paused(name)]

    def _only_while_running(self) -> None:
        if self.state.mode is not Mode.RUN:
            raise Refused("the daemon is stopping")
