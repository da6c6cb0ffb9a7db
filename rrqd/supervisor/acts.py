"""Actions become system calls. What `decisions` wants, the crew does, and the table says afterwards that it was done.

Rules of this file:

* Owns everything about a child that is not in its row: pidfd, control line, dump memfd, and the flight deck's pages.
* Every act is short and never waits. An act that can't be done leaves the table so that the next decision copes.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import selectors
import signal
import socket
import sys
from dataclasses import dataclass
from typing import Any

from rrqd.boot import Control, pair
from rrqd.flight import Counter
from rrqd.logs import Logger
from rrqd.supervisor import messages, process
from rrqd.supervisor.actions import Kill, Start
from rrqd.supervisor.births import House, birth_record
from rrqd.supervisor.cgroup import Leaves
from rrqd.supervisor.children import LOST_AT_STOP_SECONDS, Cause, Child, ExitReason, Kind, Mode, Phase, State
from rrqd.supervisor.embedded import Probe, last_words

BOOT_FD = 3


@dataclass(slots=True)
class Handles:
    """The descriptors of one child."""

    control: Control | None = None
    pidfd: int = -1
    dump_fd: int = -1


class Crew:
    """Starts, tells, signals. `selector` gets (what, child) for every pidfd and control line."""

    def __init__(self, house: House, state: State, selector: selectors.BaseSelector, log: Logger) -> None:
        self.house = house
        self.state = state
        self.selector = selector
        self.log = log
        self.handles: dict[int, Handles] = {}
        self.probe: Probe | None = None
        self.leaves = Leaves.delegated()
        self.unheard: dict[str, messages.Message] = {}
        """Deaths that no steward has answered yet; said again to the next one."""
        self.free_pages: dict[str, list[int]] = {}
        self.next_page = 0

    # -- start -----------------------------------------------------------------------------------------

    def start(self, action: Start, now: float) -> None:
        child = Child(action.kind, action.name, action.slot, action.generation, started_at=now)
        try:
            if action.kind is Kind.WORKER:
                self._start_worker(child)
            elif action.kind is Kind.SERVER:
                self._start_server(child)
            else:
                self._start_role(child)
        except OSError as error:
            # No memory, no processes, no descriptors left: later there may be again.
            self.log.error("child.not_started", child=child.title, error=str(error))
            if child.worker_id:
                self.report_death(child, ExitReason(Cause.BOOT_ERROR), None)  # the steward may wait for it
            self.forget(child)
            backoff = self.state.backoff(child.label)
            backoff.failures = max(backoff.failures, 1)
            backoff.failed(now, 1.0)
            return
        self.state.add(child)
        self.log.debug("child.started", child=child.title, pid=child.pid)

    def _start_server(self, child: Child) -> None:
        embedded = self.house.embedded
        assert embedded is not None
        child.pid, pidfd = process.spawn(embedded.argv(), embedded.environment())
        self.handles[child.key] = Handles(pidfd=pidfd)
        self.probe = Probe(embedded.socket_path)
        self.watch(child)
        self.tell(Kind.STEWARD, messages.embedded(child.pid))

    def _start_role(self, child: Child) -> None:
        control, far = pair()
        self.handles[child.key] = handles = Handles(control=control)
        record, fds, environment = birth_record(self.house, self.state, child, far.fileno())
        boot_fd = process.memory_file("rrqd-boot", json.dumps(record).encode())
        try:
            argv = [sys.executable, "-P", "-m", "rrqd.supervisor.child", record["role"], str(BOOT_FD)]
            child.pid, handles.pidfd = process.spawn(argv, environment, [boot_fd, *fds])
        finally:
            os.close(boot_fd)
            far.close()
        self.watch(child)
        if child.kind is Kind.STEWARD:
            for message in self.unheard.values():
                control.send(message)

    def _start_worker(self, child: Child) -> None:
        pool = self.state.plan.pools[child.name]
        mold = self.state.mold(pool.mold, child.generation)
        assert mold is not None
        mold_control = self.handles[mold.key].control
        if mold_control is None:
            raise ConnectionResetError("its mold has hung up")  # it is ending; its exit comes a moment later
        child.worker_id = f"rrqd_{self.house.node_id}_{child.name}.{child.slot}_{secrets.token_hex(3)}"
        child.page = self._take_page(child.name)
        child.jobs_done_before = self.jobs_done(child, since_birth=False)
        control, far = pair()
        self.handles[child.key] = handles = Handles(control=control, dump_fd=process.memory_file("rrqd-dump"))
        wake_fd = self.house.wake_fd(child.name)
        if self.state.is_paused(child.name):  # it hears this before it can ask for jobs
            self.quiet(child, True)
        self.tell(Kind.STEWARD, messages.born(child.worker_id, child.name, child.slot, 0))
        message = messages.spawn(child.worker_id, child.name, child.slot, child.page)
        fds = [far.fileno(), wake_fd, self.house.deck.fd, handles.dump_fd, self.house.members_fd]
        try:
            socket.send_fds(mold_control.sock, [json.dumps(message).encode()], fds, socket.MSG_NOSIGNAL)
        finally:
            far.close()
        self.selector.register(control.sock, selectors.EVENT_READ, ("control", child))

    def _take_page(self, pool: str) -> int:
        """Pages stay with their pool, so that a page's counters are that pool's."""
        free = self.free_pages.setdefault(pool, [])
        if free:
            return free.pop()
        if self.next_page >= self.house.deck.slots:
            raise OSError("no flight page is free; too many workers are still draining")
        self.next_page += 1
        return self.next_page - 1

    def adopt(self, child: Child, pid: int) -> bool:
        """A worker's pid has become known. False if it has ended, and has been collected, already; or if it can't be
        watched: then it is given up, and leaves when it finds nobody at the other end of its line."""
        if child.pid is not None:
            return True
        child.pid = pid
        try:
            self.handles[child.key].pidfd = process.adopt(pid)
        except ProcessLookupError:
            return False
        except OSError as error:
            self.log.error("child.not_watched", child=child.title, pid=pid, error=str(error))
            return False
        if self.leaves is not None:
            self.leaves.put(child.worker_id, pid)
        self.selector.register(self.handles[child.key].pidfd, selectors.EVENT_READ, ("exit", child))
        self.tell(Kind.STEWARD, messages.born(child.worker_id, child.name, child.slot, pid))
        return True

    def watch(self, child: Child) -> None:
        """Hear its line and its end."""
        handles = self.handles[child.key]
        if handles.pidfd >= 0:
            self.selector.register(handles.pidfd, selectors.EVENT_READ, ("exit", child))
        if handles.control is not None:
            self.selector.register(handles.control.sock, selectors.EVENT_READ, ("control", child))

    # -- tell ------------------------------------------------------------------------------------------

    def say(self, child: Child, message: messages.Message) -> bool:
        handles = self.handles.get(child.key)
        return bool(handles and handles.control and handles.control.send(message))

    def tell(self, kind: Kind, message: messages.Message) -> bool:
        """To the one process of this kind, if it is there, also while it leaves."""
        for child in self.state.children.values():
            if child.kind is kind and child.phase is not Phase.KILLING:
                return self.say(child, message)
        return False

    def drain(self, child: Child, seconds: float, now: float) -> None:
        if child.phase is Phase.KILLING:
            return
        child.phase = Phase.LEAVING
        child.leave_by = now + seconds
        self.say(child, messages.drain(seconds))
        self.log.info("worker.draining", **self.who(child), seconds=round(seconds, 1))

    def quiet(self, child: Child, quiet: bool) -> None:
        """Take no more jobs for now, or take some again; what runs goes on."""
        child.quiet, child.hushed = quiet, False
        self.say(child, messages.quiet(quiet))

    def leave(self, child: Child, seconds: float, now: float) -> None:
        """Each kind understands something else: a mold and the pages the end of the line, the steward a message, the
        server a signal."""
        if child.phase is Phase.KILLING:
            return
        child.phase = Phase.LEAVING
        child.leave_by = now + seconds
        if child.kind is Kind.STEWARD:
            self.say(child, messages.leave())
        elif child.kind is Kind.SERVER:
            process.send(self.handles[child.key].pidfd, signal.SIGTERM)
        else:
            self.hang_up(child)
            if child.kind is Kind.WEB:
                process.send(self.handles[child.key].pidfd, signal.SIGTERM)

    def kill(self, action: Kill, now: float) -> None:
        child = action.child
        if child.phase is Phase.KILLING:
            return
        child.phase = Phase.KILLING
        child.killed_at = now
        if self.state.mode is Mode.STOP:
            child.lost_after_seconds = LOST_AT_STOP_SECONDS
        child.leave_by = math.inf
        child.kill_reason = action.reason
        child.culprit, child.culprit_kind = action.culprit, action.culprit_kind
        self.log.warning("child.killed", **self.who(child), reason=str(action.reason), culprit=action.culprit)
        pidfd = self.handles[child.key].pidfd
        if child.pid is None or pidfd < 0:
            self.hang_up(child)  # not yet born: it will find nobody at the other end
        elif child.kind is Kind.WORKER:
            process.kill_group(child.pid, pidfd)
        else:
            process.send(pidfd, signal.SIGKILL)

    def hang_up(self, child: Child) -> None:
        control = self.handles[child.key].control
        if control is not None:
            self._unregister(control.sock)
            control.close()
            self.handles[child.key].control = None

    # -- end -------------------------------------------------------------------------------------------

    def forget(self, child: Child) -> None:
        """Close everything of a child that is gone, and give its page back to its pool."""
        if child.page >= 0:
            self.free_pages.setdefault(child.name, []).append(child.page)
        handles = self.handles.pop(child.key, None)
        if handles is None:
            return
        if handles.control is not None:
            self._unregister(handles.control.sock)
            handles.control.close()
        if handles.pidfd >= 0:
            self._unregister(handles.pidfd)
            os.close(handles.pidfd)
        if handles.dump_fd >= 0:
            os.close(handles.dump_fd)
        if child.kind is Kind.SERVER and self.probe is not None:
            self.probe.close()
            self.probe = None

    def _unregister(self, what: Any) -> None:
        try:
            self.selector.unregister(what)
        except (KeyError, ValueError):
            pass

    def aboard(self, child: Child, now: float) -> list[dict[str, Any]]:
        """The jobs that a worker runs, or ran when it died, as its flight page knows them."""
        if child.page < 0 or child.pid is None:
            return []
        page = self.house.deck.page(child.page)
        rows = page.running() if page.snapshot().pid == child.pid else []
        return [
            {
                "job_id": row.job_id,
                "function": row.function,
                "queue": row.queue,
                "seconds": round(now - row.started_ns / 1e9, 3),
            }
            for row in rows
        ]

    def report_death(self, child: Child, reason: ExitReason, story: dict[str, Any] | None) -> None:
        """Tell the steward, so that the jobs come back at once."""
        message = messages.dead(child.worker_id, str(reason), child.culprit, child.culprit_kind, story)
        self.unheard[child.worker_id] = message
        while len(self.unheard) > self.house.deck.slots:
            # The next steward releases every set of jobs without a living worker anyway; what is lost here
            # is only who was to blame.
            self.unheard.pop(next(iter(self.unheard)))
        self.tell(Kind.STEWARD, message)

    def last_facts(self, child: Child, reason: ExitReason, aboard: list[dict[str, Any]]) -> dict[str, Any]:
        """What the log says about an end."""
        fields: dict[str, Any] = {}
        if child.kind is Kind.WORKER:
            fields["jobs_done"] = self.jobs_done(child)
            if aboard:
                fields["running"] = [one["job_id"] for one in aboard[:10]]
            if child.culprit:
                fields["culprit"] = child.culprit
        if (child.bye or "").startswith(("boot-config:", "boot-error:")):
            fields["detail"] = (child.bye or "").partition(":")[2].strip()
        elif child.kind is Kind.SERVER and not reason.planned and self.house.embedded is not None:
            fields["detail"] = last_words(self.house.embedded.log_path)
        return fields

    def jobs_done(self, child: Child, since_birth: bool = True) -> int:
        """What the child's page has counted, in this child's life or in all."""
        done = self.house.deck.page(child.page).count(Counter.JOBS_DONE) if child.page >= 0 else 0
        return done - child.jobs_done_before if since_birth else done

    def jobs_running(self) -> int:
        """Jobs aboard all workers at this moment."""
        workers = [one for one in self.state.workers() if one.page >= 0]
        pages = [(one, self.house.deck.page(one.page).snapshot()) for one in workers]
        return sum(page.running for one, page in pages if page.pid == one.pid)

    def who(self, child: Child) -> dict[str, Any]:
        """How a child is named in log lines."""
        if child.kind is Kind.WORKER:
            return {
                "pool": child.name,
                "slot": child.slot,
                "generation": child.generation,
                "pid": child.pid,
                "worker_id": child.worker_id,
            }
        return {"child": child.title, "pid": child.pid}

    # -- stacks ----------------------------------------------------------------------------------------

    def ask_for_stacks(self, child: Child) -> None:
        """Make a worker print its stacks into its memfd, whatever it is doing."""
        handles = self.handles[child.key]
        if handles.dump_fd >= 0 and handles.pidfd >= 0:
            self.clear_stacks(child)
            process.send(handles.pidfd, process.DUMP_SIGNAL)

    def clear_stacks(self, child: Child) -> None:
        """What is printed from now on is news: a crash's own words, at best."""
        handles = self.handles.get(child.key)
        if handles is not None and handles.dump_fd >= 0:
            os.ftruncate(handles.dump_fd, 0)
            os.lseek(handles.dump_fd, 0, os.SEEK_SET)

    def read_stacks(self, child: Child) -> str:
        handles = self.handles.get(child.key)
        if handles is None or handles.dump_fd < 0:
            return ""
        return os.pread(handles.dump_fd, 65_536, 0).decode("utf-8", "replace")
