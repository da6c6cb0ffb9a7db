"""The master's loop: hear, look, decide, act, sleep.

Rules of this file:

* One thread. No user code, no Redis, no HTTP, no asyncio: there is nothing here that could hang, leak or break.
* It never waits for one thing: everything that may happen is a descriptor in one selector or a moment in the table.
* Events change the table; `decide` looks at the table; `Crew` carries out what it wants. The order of events does not
  matter, so neither does a lost or doubled one.
"""

from __future__ import annotations

import os
import selectors
import signal
from collections.abc import Callable
from typing import Any

from rrqd import clock, logs
from rrqd.boot import Message
from rrqd.config.loader import Loaded
from rrqd.supervisor import decisions, messages, process
from rrqd.supervisor.actions import Abandon, Action, Adopt, Drain, Exit, Kill, Leave, Quiet, Report, Start, Stop
from rrqd.supervisor.acts import Crew
from rrqd.supervisor.births import House
from rrqd.supervisor.children import Child, Kind, Mode, Phase, State
from rrqd.supervisor.control import ControlSocket
from rrqd.supervisor.dossier import Dossiers
from rrqd.supervisor.ends import Ends
from rrqd.supervisor.memory import GroupMemory
from rrqd.supervisor.pauses import Pauses
from rrqd.supervisor.reloads import Reloads
from rrqd.supervisor.signals import STOP_SIGNALS, Signals
from rrqd.supervisor.systemd import Notifier
from rrqd.supervisor.upgrade import Upgrade, take
from rrqd.supervisor.verbs import Verbs
from rrqd.supervisor.view import Facts, status_line, view
from rrqd.supervisor.watch import Watch
from rrqd.supervisor.wear import WearWatch
from rrqd.tether import adopt_orphans

VIEW_SECONDS = 2.0


class Master:
    def __init__(
        self,
        house: House,
        locks: list[int],
        config_path: str,
        state: State,
        facts: Facts,
        signals: Signals,
        notifier: Notifier,
        log: logs.Logger,
        reload: Callable[[], Loaded],
    ) -> None:
        self.house = house
        self.signals = signals
        self.notifier = notifier
        self.log = log
        self.state = state
        self.facts = facts
        settings = house.settings[state.plan.generation]
        self.selector = selectors.DefaultSelector()
        self.selector.register(signals.fd, selectors.EVENT_READ, ("signal", None))
        self.crew = Crew(house, state, self.selector, log)
        self.watch = Watch(self.state, self.crew, log)
        self.wear = WearWatch(self.state, self.crew, log, GroupMemory.mine(), settings.rrqd.memory_guard_share)
        self.dossiers = Dossiers(house.state_dir, log)
        self.ends = Ends(self.state, self.crew, self.dossiers, log, GroupMemory.counting(), self._hear)
        self.reloads = Reloads(house, self.state, self.crew, self.facts, notifier, log, reload)
        self.upgrade = Upgrade(
            log, notifier, self.selector, state, self.crew,
            lambda: take(house, state, self.crew, facts, self.reloads.newest_generation, locks, config_path),
        )  # fmt: skip
        self.pauses = Pauses(state)
        self.verbs = Verbs(
            self.state, self.facts, self.watch, self.reloads, self.upgrade, self.dossiers, self.pauses, log,
            self._stop_by_hand,
            busy=self._busy, most=house.deck.slots // 2,
        )  # fmt: skip
        self.control = ControlSocket(house.state_dir, self.selector, self.verbs.handle)
        self.last_turn = clock.monotonic()
        self.viewed_at = 0.0
        self.changed = True

    # -- the loop --------------------------------------------------------------------------------------

    def run(self) -> int:
        adopt_orphans()
        while True:
            now = clock.monotonic()
            self._observe(now)
            code = self._act(now)
            if code is not None:
                self.control.close()
                self.log.info("stop.done", code=code)
                return code
            self._tell(now)
            sleep = max(0.0, self._next_moment(now) - clock.monotonic())
            for key, _events in self.selector.select(sleep):
                self._event(*key.data)

    def _act(self, now: float) -> int | None:
        """Decide and act until there is nothing left to do. Acting never waits, so this ends soon; a bound is
        there so that a mistake in a decision shows as a busy master, not as a deaf one."""
        for _round in range(20):
            actions = decisions.decide(self.state, now)
            if not actions:
                break
            self.changed = True
            for action in actions:
                if isinstance(action, Exit):
                    return action.code
                self._do(action, now)
        return None

    def _do(self, action: Action, now: float) -> None:
        match action:
            case Start():
                self.crew.start(action, now)
            case Drain(child, seconds):
                self.crew.drain(child, seconds, now)
            case Leave(child, seconds):
                self.crew.leave(child, seconds, now)
            case Kill():
                self.crew.kill(action, now)
            case Quiet(child, quiet):
                self.crew.quiet(child, quiet)
            case Report(child):
                self.watch.suspect(child, now)
            case Adopt(plan):
                self.reloads.adopt(plan)
            case Abandon(plan, why):
                self.state.candidate = None
                self.reloads.failed(why, plan.generation)
            case Stop(code, why):
                self.log.error("start.failed", error=why, code=code)
                self._stop(now, code)
            case Exit():
                pass

    def _next_moment(self, now: float) -> float:
        return min(decisions.next_moment(self.state, now), self.watch.next_moment, self.pauses.next_moment)

    def _tell(self, now: float) -> None:
        """Everybody who looks at us from outside."""
        self.pauses.turn(now)
        if not self.facts.ready_once and self.state.settled:
            self.facts.ready_once = True
            self._announce()
        self._tell_systemd(now)
        if now - self.viewed_at >= VIEW_SECONDS:
            self._reap_strangers()
        if self.changed or now - self.viewed_at >= VIEW_SECONDS:
            self.changed, self.viewed_at = False, now
            shown = view(self.state, self.facts, now, clock.wall_ms())
            self.crew.tell(Kind.WEB, messages.state(shown))
        logs.journal().flush()

    def _tell_systemd(self, now: float) -> None:
        """Before it was ready the store may be away, and a stop lasts as long as its jobs: systemd should see what we
        wait for, and wait too."""
        stopping = self.state.mode is Mode.STOP
        line = status_line(self.state, self.crew.jobs_running() if stopping else 0)
        self.notifier.alive(now)
        if self.facts.ready_once:
            self.notifier.status(line)
        if stopping or not self.facts.ready_once:
            self.notifier.extend(now, line)

    def _announce(self) -> None:
        pools = {name: pool.processes for name, pool in self.state.plan.pools.items()}
        where = {"http": f"http://{self.facts.http}"} if self.facts.http else {}
        store = {"embedded": self.facts.embedded_address} if self.facts.embedded_address else {}
        self.log.info("rrqd.ready", **where, **store, pools=pools, pid=os.getpid())
        self.notifier.ready(status_line(self.state))

    # -- looking ---------------------------------------------------------------------------------------

    def _observe(self, now: float) -> None:
        if now - self.last_turn > decisions.TICK_SECONDS + 1.0:
            # We were away ourselves: suspended, starved, stopped. What we missed is nobody's fault.
            self.state.trust_after = now
            self.facts.pauses += 1
            self.log.warning("master.paused", seconds=round(now - self.last_turn, 1))
        self.last_turn = now
        for child in list(self.state.workers()):
            if child.pid is None and child.lost(now):
                self.ends.bury(child, None)
        self.ends.kills.turn(now)
        for child in self.state.newly_lost(now):
            self.ends.lost(child)
            self.changed = True
        self.watch.turn(now)
        self.wear.turn(now)
        self.control.give_up(now)
        self.upgrade.turn(now)
        if self.crew.probe is not None:
            self._probe_server(now)

    def _probe_server(self, now: float) -> None:
        server = self.state.service(Kind.SERVER)
        if server is None or self.crew.probe is None:
            return
        answer = self.crew.probe.look()
        if answer == "loading" and not server.spoke:
            self.log.info("valkey.loading", pid=server.pid)
            server.spoke = True
        elif answer == "ready":
            self.crew.probe = None
            self._ready(server, now)

    # -- hearing ---------------------------------------------------------------------------------------

    def _event(self, what: str, child: Any) -> None:
        now = clock.monotonic()
        if what == "signal":
            self._signals(now)
        elif what == "upgrade":
            self.upgrade.checked()
        elif what == "control-listen":
            self.control.accept(now)
        elif what == "control-client":
            self.control.ready(child, now)
            self.changed = True
        elif child.key in self.crew.handles:
            if what == "exit":
                self.ends.ended(child, now)
                self.changed = True
            else:
                self._hear(child, now)

    def _signals(self, now: float) -> None:
        pending = self.signals.take()
        gentle = self.house.settings[self.state.plan.generation].rrqd.quit_drains
        if pending & set(STOP_SIGNALS) or (gentle and signal.SIGQUIT in pending):
            self._stop(now, 0)
        if signal.SIGQUIT in pending and not gentle:
            self._stop(now, 0)
            self.state.stop_step = 2
        if signal.SIGHUP in pending and self.state.mode is Mode.RUN:
            self.reloads.begin(now)
            self.changed = True
        self.verbs.nudge((signal.SIGTTIN in pending) - (signal.SIGTTOU in pending))
        if signal.SIGCONT in pending:  # of the two the one that lets work go on
            self.verbs.quieten(False)
        elif signal.SIGTSTP in pending:
            self.verbs.quieten(True)
        if signal.SIGUSR2 in pending and self.state.mode is Mode.RUN:
            self.upgrade.begin(now)
        if signal.SIGUSR1 in pending:
            self.watch.everybody(now)
        if signal.SIGCHLD in pending:
            self._reap_strangers()

    def _reap_strangers(self) -> None:
        """Orphans of jobs. Called at their signal, and now and then: one of ours that stands before them in the
        kernel's list hides them until it is collected."""
        if self.crew.leaves is not None:
            self.crew.leaves.sweep({one.worker_id for one in self.state.workers()})
        for gone in process.reap_strangers(self._is_ours):
            self.facts.strangers += 1
            self.log.debug("stranger.reaped", pid=gone.pid, code=gone.code, signal=gone.signal)

    def _is_ours(self, pid: int) -> bool:
        return self.upgrade.is_ours(pid) or any(child.pid == pid for child in self.state.children.values())

    def _stop(self, now: float, code: int) -> None:
        first = self.state.mode is Mode.RUN
        self.state.stop(now, code)
        patience = self.state.plan.limits.stop_seconds
        if first:
            self.state.candidate = None
            self.reloads.stopped()
            self.notifier.stopping(patience + 30.0)
            self.log.info("stop.begin", seconds=patience, workers=len(list(self.state.workers())))
        else:
            self.log.warning("stop.harder", step=("", "hand back", "kill")[self.state.stop_step])
        self.changed = True

    def _busy(self, worker: Child) -> float:
        """How full a worker is, by its page."""
        settings = self.house.settings.get(worker.generation) or self.house.settings[self.state.plan.generation]
        pool = settings.rrqd.pools.get(worker.name)
        if worker.page < 0 or pool is None:
            return 0.0
        return self.house.deck.page(worker.page).snapshot().running / pool.concurrency

    def _stop_by_hand(self, step: int) -> None:
        """Over the control socket: no second command is needed for the harder steps."""
        self._stop(clock.monotonic(), 0)
        self.state.stop_step = max(self.state.stop_step, step)

    def _hear(self, child: Child, now: float) -> None:
        control = self.crew.handles[child.key].control
        if control is None:
            return
        for message in control.drain():
            child.spoke = True
            self._message(child, message, now)
            if child.key not in self.crew.handles:
                return
        if control.ended:
            self.crew.hang_up(child)
            if child.kind is Kind.WORKER and child.pid is None:
                self.ends.bury(child, None)

    def _message(self, child: Child, message: Message, now: float) -> None:
        match message["type"]:
            case "ready":
                self._ready(child, now, message)
            case "hello":
                self._born(child, int(message["pid"]))
            case "spawned" | "failed":
                self._forked(message)
            case "bye":
                child.bye = str(message.get("reason", ""))
            case "quiet":
                child.hushed = child.quiet
            case "overdue":
                child.overdue = str(message.get("job_id"))
                self.log.warning("worker.overdue", **self.crew.who(child), job_id=child.overdue)
            case "backlog":
                self.verbs.backlog(message.get("oldest_seconds", {}))
            case "released":
                self.crew.unheard.pop(str(message.get("worker_id")), None)
            case "store":
                self.facts.store = {"ok": message.get("ok"), "message": message.get("message", "")}
                self.changed = True
            case "dump":
                self.watch.heard(child, [*message.get("threads", []), *message.get("tasks", [])])

    def _ready(self, child: Child, now: float, message: Message | None = None) -> None:
        self.state.ready(child, now)
        extra: dict[str, Any] = {}
        if child.kind is Kind.MOLD and message is not None:
            extra = {"imports": message.get("costs"), "frozen": message.get("frozen")}
        self.log.info(
            f"{child.kind.value}.ready", **self.crew.who(child), seconds=round(now - child.started_at, 3), **extra
        )
        self.changed = True

    def _born(self, child: Child, pid: int) -> None:
        if not self.crew.adopt(child, pid):
            self.ends.bury(child, None)
        elif child.phase is Phase.KILLING:
            process.kill_group(pid, self.crew.handles[child.key].pidfd)

    def _forked(self, message: Message) -> None:
        worker = next((one for one in self.state.workers() if one.worker_id == message.get("worker_id")), None)
        if worker is None:
            return
        if message["type"] == "spawned":
            self._born(worker, int(message["pid"]))
        else:
            self.log.error("mold.corrupt", why=message.get("why"))
            self.ends.bury(worker, None)
