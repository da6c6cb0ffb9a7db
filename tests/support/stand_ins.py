"""Stand-ins for steward, web and worker: the supervisor's tests watch processes, not jobs.

The worker stand-in is told what to do by lines in a file, ``orders`` in the state folder; it does each order once.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from rrqd import stacks
from rrqd.boot import Message, StewardBoot, WebBoot, WorkerBoot, when_gone
from rrqd.flight import Counter

ROLES = {
    "steward": "tests.support.stand_ins:steward",
    "web": "tests.support.stand_ins:web",
    "worker": "tests.support.stand_ins:worker",
}


def note(folder: Path, name: str, message: Any) -> None:
    """Append one line to a file of the state folder, for the test to read."""
    with (folder / name).open("a") as file:
        file.write(json.dumps(message) + "\n")


def steward(boot: StewardBoot) -> int:
    """Says it has the lease, writes down what it hears, and stays until the last worker when the master dies."""
    return asyncio.run(_steward(boot))


async def _steward(boot: StewardBoot) -> int:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[str] = loop.create_future()
    workers = dict(boot.workers)

    def hear(message: Message) -> None:
        note(boot.state_dir, "steward.heard", message)
        if message["type"] == "leave" and not done.done():
            done.set_result("leave")
        elif message["type"] == "born" and message["pid"]:
            workers[message["worker_id"]] = message["pid"]
        elif message["type"] == "dead":
            workers.pop(message["worker_id"], None)
            boot.control.send({"type": "released", "worker_id": message["worker_id"], "jobs": 0})

    def orphaned() -> None:
        if not done.done():
            done.set_result("orphaned")

    boot.control.attach(loop, hear, orphaned)
    note(boot.state_dir, "steward.heard", {"type": "boot", "slots": boot.slots, "wake": sorted(boot.wake_fds)})
    boot.control.send({"type": "ready"})
    boot.control.send({"type": "store", "ok": True, "message": ""})
    if await done == "orphaned":
        await asyncio.gather(*(when_gone(loop, pid) for pid in workers.values()))
        if boot.embedded_pid:
            os.kill(boot.embedded_pid, signal.SIGTERM)
            await when_gone(loop, boot.embedded_pid)
        note(boot.state_dir, "steward.heard", {"type": "left-last"})
    return 0


def web(boot: WebBoot) -> int:
    """Writes down the master's last view."""
    return asyncio.run(_web(boot))


async def _web(boot: WebBoot) -> int:
    loop = asyncio.get_running_loop()

    def hear(message: Message) -> None:
        if message["type"] == "state":
            draft = boot.state_dir / "view.draft"
            draft.write_text(json.dumps(message))
            draft.replace(boot.state_dir / "view.json")

    boot.control.attach(loop, hear)
    boot.control.send({"type": "ready"})
    assert boot.control.closed is not None
    await boot.control.closed
    return 0


def worker(boot: WorkerBoot) -> int:
    return asyncio.run(StandIn(boot).run())


class StandIn:
    """A worker with two beats, a drain, and a file of orders instead of a queue."""

    def __init__(self, boot: WorkerBoot) -> None:
        self.boot = boot
        self.folder = boot.state_dir
        self.leaving = asyncio.Event()
        self.patience = boot.settings.rrqd.stop_timeout_seconds
        self.jobs: set[asyncio.Task[None]] = set()

    async def run(self) -> int:
        boot, loop = self.boot, asyncio.get_running_loop()
        boot.control.attach(loop, self.hear, self.leaving.set)
        loop.add_signal_handler(signal.SIGTERM, self.leaving.set)
        loop.call_soon(self.beat)
        threading.Thread(target=self.watchdog, name="watchdog", daemon=True).start()
        if (self.folder / "fail").exists():
            boot.control.send({"type": "bye", "reason": "boot-config:the folder says fail"})
            return 78
        if (self.folder / "crash").exists():
            return 3
        if (self.folder / "stuck").exists() or self.take_away("stuck-once"):
            await asyncio.Event().wait()
        boot.page.set_state("ready")
        boot.page.beat_loop(time.monotonic_ns())
        boot.control.send({"type": "ready"})
        while not self.leaving.is_set():
            self.take_order()
            try:
                await asyncio.wait_for(self.leaving.wait(), 0.02)
            except TimeoutError:
                continue
        boot.page.set_state("draining")
        if self.jobs:
            await asyncio.wait(self.jobs, timeout=self.patience)
        boot.control.send({"type": "bye", "reason": "drained"})
        return 0

    def take_away(self, name: str) -> bool:
        """True for the one worker that finds this file."""
        try:
            (self.folder / name).unlink()
        except FileNotFoundError:
            return False
        return True

    def beat(self) -> None:
        self.boot.page.beat_loop(time.monotonic_ns())
        asyncio.get_running_loop().call_later(0.1, self.beat)

    def watchdog(self) -> None:
        pause = threading.Event()
        while True:
            self.boot.page.beat_thread(time.monotonic_ns())
            pause.wait(0.1)

    def hear(self, message: Message) -> None:
        if message["type"] == "quiet":
            self.boot.control.send({"type": "quiet"})
        elif message["type"] == "drain":
            self.patience = message["deadline_seconds"]
            self.leaving.set()
            for job in self.jobs if not self.patience else ():
                job.cancel()
        elif message["type"] == "dump":
            loop = asyncio.get_running_loop()
            self.boot.control.send({"type": "dump", "tasks": stacks.tasks(loop)})

    def take_order(self) -> None:
        """Orders are files named ``order-<pool>.<slot>``, or ``order-any``; whoever unlinks one owns it."""
        for name in (f"order-{self.boot.pool}.{self.boot.slot}", "order-any"):
            path = self.folder / name
            try:
                order = json.loads(path.read_text())
                path.unlink()
            except (FileNotFoundError, ValueError):
                continue
            task = asyncio.create_task(self.obey(order), name=f"job:{order.get('job_id', 'j1')}")
            self.jobs.add(task)
            task.add_done_callback(self.jobs.discard)

    async def obey(self, order: dict[str, Any]) -> None:
        page, job_id = self.boot.page, order.get("job_id", "j1")
        limit = order.get("timeout_seconds", 60.0)
        deadline_ns = time.monotonic_ns() + int(limit * 1e9) if limit else 0
        row = page.start(job_id, 7, "stand-in", "default", deadline_ns)
        page.set_running(len(self.jobs))
        note(self.folder, "jobs", {"job_id": job_id, "did": "begin", "pid": os.getpid()})
        match order["do"]:
            case "wait":
                await asyncio.sleep(order["seconds"])
            case "wait until":
                while not (self.folder / order["gate"]).exists():  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            case "run":  # a program of the job's own, in the worker's process group as a handler's would be
                await (await asyncio.create_subprocess_exec(*order["argv"])).wait()
            case "exit":
                os._exit(order["code"])
            case "block":  # the loop stands still, the interpreter does not
                page.set_suspect(job_id)
                threading.Event().wait(order["seconds"])
            case "hold":  # the interpreter stands still, and needs no processor for that
                lock = ctypes.create_string_buffer(256)
                for _ in range(2):
                    ctypes.PyDLL(None).pthread_mutex_lock(lock)
            case "overdue":
                self.boot.control.send({"type": "overdue", "job_id": job_id, "token": 7})
        page.finish(row)
        page.set_running(len(self.jobs) - 1)
        page.add(Counter.JOBS_DONE)
        note(self.folder, "jobs", {"job_id": job_id, "did": "end", "pid": os.getpid()})


def main() -> int:
    """``python -m tests.support.stand_ins rrq.toml``: the daemon with these stand-ins in the real ones' places."""
    from rrqd.config.loader import load
    from rrqd.supervisor.daemon import run_daemon

    return run_daemon(load(sys.argv[1]), roles=ROLES)


if __name__ == "__main__":
    sys.exit(main())
