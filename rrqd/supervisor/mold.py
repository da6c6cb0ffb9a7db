"""The mold: a fresh interpreter that imports a pool's code once, and of which workers are forked.

Rules of this file:

* A mold never runs a loop and never starts a thread: what is not here can't be broken by a fork. The imports are
  audited for what they leave behind, with the import named (`audit`).
* Garbage collection is off while importing (nothing imported is garbage) and everything is frozen before the first
  fork, so that the collector of a child does not write into shared pages.
* Workers are forked twice: the one in between ends at once, and the kernel hands the worker to the master.
* The mold leaves at once when the master is gone; its workers don't depend on it.
"""

from __future__ import annotations

import faulthandler
import gc
import json
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import setproctitle
import structlog

from rrqd import logs, stacks
from rrqd.boot import LARGEST_MESSAGE_BYTES, Control, WorkerBoot
from rrqd.exc import ConfigError
from rrqd.flight import FlightDeck
from rrqd.handlers import LoadedHandlers, import_module, load_handlers, load_middlewares, make_importable, warm_up
from rrqd.supervisor.audit import Audit, threads_now
from rrqd.supervisor.child import find_entry, quiet_signals
from rrqd.supervisor.confine import confine, plan
from rrqd.supervisor.process import DUMP_SIGNAL

if TYPE_CHECKING:
    from rrqd.config.settings import Settings

CONFIG_EXIT_CODE = 78
CORRUPT_EXIT_CODE = 70
FORK_SECONDS = 5.0
"""A fork may hang in somebody's at-fork hook; then the mold is of no use any more."""

NEW_OBJECTS = 10_000
"""A worker's garbage is looked for when it has made so many more than it has let go of. A claim's jobs take a thousand
while they run: by Python's usual 700 every turn of a busy worker would be searched, in vain."""

log = structlog.get_logger()


def main(record: dict[str, Any], settings: Settings) -> int:
    """Import, audit, freeze, serve. Returns when the master is gone or wants no more of it."""
    sock = socket.socket(fileno=record["fds"]["control"])
    control = Control(sock)
    faulthandler.enable(sys.stderr)
    gc.disable()
    try:
        handlers, run_worker, audit = prepare(record)
    except ConfigError as error:
        control.send({"type": "bye", "reason": f"boot-config:{error}"})
        return CONFIG_EXIT_CODE
    for warning in audit.warned:
        log.warning("mold.audit", mold=record["name"], problem=warning)
    if audit.refused:
        control.send({"type": "bye", "reason": "boot-config:" + "; ".join(audit.refused)})
        return CONFIG_EXIT_CODE
    gc.collect()
    gc.freeze()
    control.send({"type": "ready", "costs": audit.short(), "frozen": gc.get_freeze_count()})
    sock.setblocking(True)
    Mold(record, settings, sock, handlers, run_worker).serve()
    return 0


def prepare(record: dict[str, Any]) -> tuple[LoadedHandlers, Callable[[Any], Any], Audit]:
    """Everything up to the first fork. The order decides who gets the blame: our own runtime first, then the preloads,
    the handlers, what is to be called before the fork, and a fork that nobody needs."""
    os.environ.update(record["environment"])
    if record["cwd"]:
        try:
            os.chdir(record["cwd"])
        except OSError as error:
            raise ConfigError(f'cwd = "{record["cwd"]}": {error.strerror}') from error
    make_importable(Path(record["config_folder"]))
    audit = Audit()
    run_worker = audit.step("rrqd.runtime", lambda: find_entry(record["entry"]))
    for name in record["preload"]:
        audit.step(name, partial(import_module, name, f'preload = "{name}"'))
    spec = record["handlers"]
    handlers = audit.step(spec.partition(":")[0], lambda: load_handlers(spec))
    around = record["middleware"]
    if around:
        handlers = replace(handlers, middlewares=audit.step("middleware", lambda: load_middlewares(around)))
    for name in record["warmup"]:
        audit.step(f"warmup {name}", partial(warm_up, name), f"warmup {name}")
    audit.try_fork()
    return handlers, run_worker, audit


class Mold:
    """Serves the master's wishes for workers, one after the other."""

    def __init__(
        self,
        record: dict[str, Any],
        settings: Settings,
        sock: socket.socket,
        handlers: Any,
        run_worker: Callable[[WorkerBoot], Any],
    ) -> None:
        self.record = record
        self.settings = settings
        self.sock = sock
        self.handlers = handlers
        self.run_worker = run_worker

    def serve(self) -> None:
        while True:
            try:
                data, fds, _flags, _address = socket.recv_fds(self.sock, LARGEST_MESSAGE_BYTES, 8)
            except OSError:
                return
            if not data:
                return
            for fd in fds:
                os.set_inheritable(fd, False)
            try:
                message = json.loads(data)
                if message["type"] == "spawn":
                    self._spawn(message, fds)
                elif message["type"] == "dump":
                    self._tell({"type": "dump", "threads": stacks.threads()})
            finally:
                for fd in fds:
                    os.close(fd)

    def _tell(self, message: dict[str, Any]) -> None:
        try:
            self.sock.send(json.dumps(message).encode(), socket.MSG_NOSIGNAL)
        except OSError:
            os._exit(0)

    def _spawn(self, message: dict[str, Any], fds: list[int]) -> None:
        threads = threads_now()
        if threads:
            self._corrupt(message, f"a thread has appeared in the mold: {', '.join(threads.values())}")
        sys.stdout.flush()
        sys.stderr.flush()
        reader, writer = os.pipe()
        everything = signal.valid_signals()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, everything)
        between = os.fork()
        if between == 0:
            self._between(message, fds, writer)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        os.close(writer)
        pid = _read_pid(reader)
        os.close(reader)
        if pid is None:
            os.kill(between, signal.SIGKILL)
            os.waitpid(between, 0)
            self._corrupt(message, f"a fork did not come back within {FORK_SECONDS:g} s")
        os.waitpid(between, 0)
        self._tell({"type": "spawned", "worker_id": message["worker_id"], "pid": pid})

    def _corrupt(self, message: dict[str, Any], why: str) -> NoReturn:
        self._tell({"type": "failed", "worker_id": message["worker_id"], "why": why})
        os._exit(CORRUPT_EXIT_CODE)

    def _between(self, message: dict[str, Any], fds: list[int], writer: int) -> NoReturn:
        """In the process between mold and worker. It must do nothing but fork and end."""
        try:
            me = os.getpid()
            pid = os.fork()
            if pid == 0:
                code = 1
                try:
                    code = self._worker(message, fds, writer, me)
                except BaseException:
                    log.exception("worker.crashed", worker_id=message["worker_id"])
                finally:
                    _flush()
                    os._exit(code)
            os.write(writer, pid.to_bytes(8, "little"))
        finally:
            os._exit(0)

    def _worker(self, message: dict[str, Any], fds: list[int], writer: int, between: int) -> int:
        """In the worker. Returns its exit code."""
        os.close(writer)
        self.sock.close()
        control_fd, wake_fd, deck_fd, dump_fd, _members_fd = fds
        _wait_for_new_parent(between)
        os.setpgid(0, 0)
        pool, slot, generation = message["pool"], message["slot"], self.record["generation"]
        setproctitle.setproctitle(f"rrqd: worker {pool}/{slot} g{generation}")
        signal.set_wakeup_fd(-1)
        _worker_signals(dump_fd)
        _reseed()
        gc.set_threshold(NEW_OBJECTS, *gc.get_threshold()[1:])
        gc.enable()
        logs.configure(
            "worker",
            self.settings.rrqd.log_format,
            self.settings.rrqd.log_level,
            {"node": self.record["node_id"], "slot": f"{pool}/{slot}", "generation": generation},
        )
        control = Control(socket.socket(fileno=control_fd))
        control.send({"type": "hello", "pid": os.getpid()})
        state_dir = Path(self.record["state_dir"])
        try:
            confine(
                plan(
                    pool,
                    self.settings.rrqd.pools[pool],
                    slot,
                    os.sched_getaffinity(0),
                    state_dir / "sandboxes" / message["worker_id"],
                    Path(self.record["config_folder"]),
                )
            )
        except ConfigError as error:
            control.send({"type": "bye", "reason": f"boot-config:{error}"})
            return CONFIG_EXIT_CODE
        page = FlightDeck.attach(deck_fd).page(message["page"])
        page.begin(os.getpid(), message["worker_id"], pool, slot, generation)
        boot = WorkerBoot(
            settings=self.settings,
            pool=pool,
            slot=slot,
            generation=generation,
            node_id=self.record["node_id"],
            worker_id=message["worker_id"],
            registry=self.handlers,
            page=page,
            wake_fd=wake_fd,
            control=control,
            master_pid=self.record["master_pid"],
            state_dir=state_dir,
            dump_fd=dump_fd,
        )
        return int(self.run_worker(boot) or 0)


def _read_pid(reader: int) -> int | None:
    ready, _, _ = select.select([reader], [], [], FORK_SECONDS)
    data = os.read(reader, 8) if ready else b""
    return int.from_bytes(data, "little") if len(data) == 8 else None


def _wait_for_new_parent(between: int) -> None:
    """The kernel re-parents us a moment after the process in between has ended, without telling."""
    while os.getppid() == between:
        select.select([], [], [], 0.001)


def _worker_signals(dump_fd: int) -> None:
    """TERM keeps its default until the runtime has made a drain of it. Of the rest nothing may end a worker."""
    for number in (signal.SIGTERM, signal.SIGCHLD):
        signal.signal(number, signal.SIG_DFL)
    quiet_signals()
    faulthandler.enable(dump_fd)  # a crash in C is told in the dossier, which outlives us
    faulthandler.register(signal.SIGUSR1, file=sys.stderr, all_threads=True)
    faulthandler.register(DUMP_SIGNAL, file=dump_fd, all_threads=True)
    signal.pthread_sigmask(signal.SIG_SETMASK, set())


def _reseed() -> None:
    """Python's own generator seeds itself after a fork. numpy's global one does not: every worker would draw the
    same numbers. (numpy imports it when it is first used; a worker that does so itself has one of its own.)"""
    random = sys.modules.get("numpy.random")
    if random is not None:
        try:
            random.seed()
        except TypeError:
            log.warning("worker.not_seeded", why="numpy's global generator was replaced by one without a seed")


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass
