"""How rrqd bears what happens to it: kills, hangs, reloads, storms of signals, stops. `python -m bench.soak --help`.

Each scenario runs the whole daemon on a server of its own and notes figures with their goals. A goal that is missed,
or a promise that is broken (a job lost, a process left behind), makes the exit code 1. The short versions run in the
tests; ``--long`` has the numbers that docs/operating.md quotes, and takes about half an hour.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import select
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from bench import machine
from bench.clock import cron
from bench.daemon import Rrqd
from bench.fleet import fleet
from bench.homes import homes
from bench.live import live
from bench.machine import private_mib
from bench.memory import obtain
from bench.model import model
from bench.server import Server, heed_term, until
from bench.sheet import Sheet, percentile, table
from rrqd.client import SyncRRQClient

LOG_LOOK_SECONDS = 0.002
SETTLE_SECONDS = 30.0


class Soaked(Rrqd):
    """A daemon whose log is read while it grows."""

    _position = 0

    def events(self) -> list[dict[str, Any]]:
        """What was logged since the last call."""
        with (self.folder / "log").open("rb") as file:
            file.seek(self._position)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._position += whole
        return [json.loads(line) for line in data[:whole].splitlines() if line[:1] == b"{"]

    def next(self, event: str, seconds: float = 20.0, **fields: object) -> dict[str, Any]:
        """The next event of that name with these fields; those before it are passed over."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for one in self.events():
                if one["event"] == event and all(one.get(key) == value for key, value in fields.items()):
                    return one
            time.sleep(LOG_LOOK_SECONDS)
        raise TimeoutError(f"no {event} {fields} within {seconds:g} s")

    @property
    def master(self) -> psutil.Process:
        assert self.process is not None
        return psutil.Process(self.process.pid)

    def whole(self) -> bool:
        """Everybody there that should be."""
        names = Counter(title.partition(" g")[0] for title in map(machine.title, self.processes()[1:]))
        return len(self.workers()) == self._processes and {"rrqd: steward", "rrqd: web"} <= set(names)


def when(event: dict[str, Any]) -> float:
    """Epoch seconds of a log line."""
    return datetime.fromisoformat(str(event["time"])).timestamp()


@contextmanager
def running(heavy: Path | None = None, **pool: Any) -> Iterator[tuple[Soaked, Server, SyncRRQClient]]:
    """A daemon, its server and a client."""
    with (
        Server() as server,
        Soaked(server, heavy=heavy, **pool) as daemon,
        SyncRRQClient(config={"redis_dsn": server.dsn}) as client,
    ):
        daemon.events()
        yield daemon, server, client


def kills(sheet: Sheet, long: bool) -> None:
    """A worker with heavy preloads and a running job is killed: how soon it is seen, replaced, its job free again."""
    with tempfile.TemporaryDirectory(prefix="rrqd-bench-heavy-") as folder:
        modules, path = obtain(Path(folder), sheet) if long else (("decimal",), Path(folder))
        ended, seen, replaced, freed = [], [], [], []
        with running(path, preload=list(modules), concurrency=1, max_retries=1000) as (daemon, server, client):
            for _ in range(200 if long else 10):
                # Workers that die before they have done anything are held back, on purpose: these have done something.
                before = server.ended()
                client.enqueue_many([("nap", {"params": {"seconds": 0.01}})] * 20)
                until(lambda: server.ended() >= before + 20, 10, "both to have worked")  # noqa: B023
                job = client.enqueue("nap", {"params": {"seconds": 600}})
                key = f"rrq:job:{job}"
                until(lambda: server.redis.hget(key, "status") == b"ACTIVE", 10, "the job to run", 0.005)  # noqa: B023
                who = str(server.redis.hget(key, "worker_id"), "ascii")
                pid = next(one["pid"] for one in _status(daemon) if one["worker_id"] == who)
                token = server.redis.hget(key, "rrqd_token")
                daemon.events()
                watch = os.pidfd_open(pid)
                killed_at = time.time()
                os.kill(pid, signal.SIGKILL)
                select.select([watch], [], [])  # the kernel takes its memory down first: that is nobody's delay
                ended_at = time.time()
                os.close(watch)
                while server.redis.hget(key, "rrqd_token") == token:
                    time.sleep(0.0005)
                freed.append(time.time() - killed_at)
                events: list[dict[str, Any]] = []
                while not any(one["event"] == "worker.ready" for one in events):
                    events += daemon.events()
                    time.sleep(LOG_LOOK_SECONDS)
                ended.append(ended_at - killed_at)
                seen.append(max(0.0, _at(events, "worker.died") - ended_at))
                replaced.append(_at(events, "worker.ready") - killed_at)
                client.cancel(job)
                until(daemon.whole, 10, "everybody")
                until(lambda: server.redis.hget(key, "status") == b"CANCELLED", 10, "the cancel")  # noqa: B023
        sheet.add("kills", "the kernel has ended a worker, p99", "ms", 1000 * percentile(ended, 0.99))
        sheet.add("kills", "its death is seen after that, p99", "ms", 1000 * percentile(seen, 0.99), "<= 5")
        sheet.add("kills", "its replacement is ready, p50", "ms", 1000 * percentile(replaced, 0.5))
        sheet.add("kills", "its replacement is ready, p99", "ms", 1000 * percentile(replaced, 0.99), "<= 60")
        sheet.add("kills", "its job is free again, p99", "ms", 1000 * percentile(freed, 0.99), "<= 100")


def _at(events: list[dict[str, Any]], name: str) -> float:
    return next(when(one) for one in events if one["event"] == name)


def _status(daemon: Soaked) -> list[dict[str, Any]]:
    from rrqd.local_socket import ask

    pools = ask(daemon.folder / "state", {"command": "status"})["status"]["pools"]
    return [slot for pool in pools.values() for slot in pool["slots"]]


def hangs(sheet: Sheet, long: bool) -> None:
    """A job blocks its loop, or the whole interpreter: how soon the log says so, with the job."""
    with running(concurrency=5) as (daemon, _server, client):
        for name in ("block", "hold"):
            for _ in range(5 if long else 1):
                daemon.events()
                began = time.time()
                job = client.enqueue(name, {"params": {"seconds": 3.5}})
                event = daemon.next("worker.suspect", job_id=job)
                sheet.add("hangs", f"{name}: reported after", "s", when(event) - began, "<= 2")
                if "jobs.py" not in event["stack"]:
                    sheet.broken(f"hangs: {name}: the stack does not show the handler")
                client.wait_for_completion(job, timeout_seconds=20)


def hups(sheet: Sheet, long: bool) -> None:
    """Reloads under full load: nothing lost, nothing twice, and how much slower the work goes."""
    quiet = _under_load(sheet, 100.0 if long else 8.0, every=None)
    rolled = _under_load(sheet, 600.0 if long else 8.0, every=2.0)
    sheet.add("hups", "throughput with a reload every 2 s, of that without", "%", 100 * rolled / quiet, ">= 95")


def _under_load(sheet: Sheet, seconds: float, every: float | None) -> float:
    with running(concurrency=20) as (daemon, server, client), tempfile.TemporaryDirectory() as folder:
        file, ids, reloads = f"{folder}/ledger", [], 0
        end, next_hup = time.monotonic() + seconds, time.monotonic()
        while time.monotonic() < end:
            if server.redis.zcard("rrq:queue:default") < 2000:
                ids += client.enqueue_many([("ledger", {"params": {"file": file}})] * 500)
            if every is not None and time.monotonic() >= next_hup:
                daemon.master.send_signal(signal.SIGHUP)
                reloads += 1
                next_hup += every
            time.sleep(0.01)
        done = len(Path(file).read_text().splitlines())
        until(lambda: server.ended() >= len(ids), 120, "all jobs to end")
        runs = Counter(Path(file).read_text().split())
        lost, twice = set(ids) - set(runs), [job for job, times in runs.items() if times > 1]
        if lost or twice:
            sheet.broken(f"hups: {len(lost)} of {len(ids)} jobs lost, {len(twice)} run twice")
        if every is not None:
            sheet.add("hups", "jobs, reloads", "jobs", len(ids))
            sheet.add("hups", "reloads", "", reloads)
        return done / seconds


def reloads(sheet: Sheet, long: bool) -> None:
    """Reloads, one after the other: the master has afterwards what it had before, to the last descriptor."""
    count = 1_000 if long else 12
    with running() as (daemon, _server, _client):
        before = _shape(daemon)
        for nth in range(count):
            daemon.master.send_signal(signal.SIGHUP)
            daemon.next("reload.done", generation=nth + 2)
        same = ("processes", "descriptors", "threads", "zombies", "sandboxes")
        with suppress(TimeoutError):  # the last of the old ones takes its time
            until(
                lambda: [_shape(daemon)[one] for one in same] == [before[one] for one in same], SETTLE_SECONDS, "rest"
            )
        after = _shape(daemon)
        sheet.add("reloads", "reloads", "", count)
        sheet.add("reloads", "master's private memory, more than before", "MiB", after["mib"] - before["mib"], "<= 8")
        for what in same:
            if after[what] != before[what]:
                sheet.broken(f"reloads: {what} {before[what]} before, {after[what]} after")


def chaos(sheet: Sheet, long: bool) -> None:
    """Random kills of workers, molds and stewards: afterwards everything is as before."""
    workers, others = (10_000, 1_000) if long else (60, 10)
    victims = ["rrqd: worker"] * workers + ["rrqd: mold", "rrqd: steward"] * (others // 2)
    random.Random(7).shuffle(victims)
    with running(processes=4, concurrency=5) as (daemon, server, client):
        client.enqueue_many([("nap", {"params": {"seconds": 0.01}})] * 100)
        until(lambda: server.ended() >= 100, 30, "the warm-up")
        before = _shape(daemon)
        for nth, victim in enumerate(victims):
            found = daemon.named(victim)
            if found:
                random.choice(found).kill()
            if nth % 50 == 0:
                client.enqueue_many([("nap", {"params": {"seconds": 0.01}, "max_retries": 1000})] * 10)
            time.sleep(0.02)
        until(daemon.whole, SETTLE_SECONDS + 60, "everybody to be back")
        time.sleep(2.0)
        after = _shape(daemon)
        sheet.add("chaos", "kills", "", len(victims))
        sheet.add("chaos", "master's private memory, more than before", "MiB", after["mib"] - before["mib"], "<= 8")
        for what in ("processes", "descriptors", "zombies", "sandboxes"):
            if after[what] > before[what]:
                sheet.broken(f"chaos: {what} {before[what]} before, {after[what]} after")


def _shape(daemon: Soaked) -> dict[str, float]:
    people = daemon.processes()
    sandboxes = daemon.folder / "state" / "sandboxes"
    return {
        "processes": len(people),
        "descriptors": daemon.master.num_fds(),
        "threads": daemon.master.num_threads(),
        "zombies": sum(one.is_running() and one.status() == psutil.STATUS_ZOMBIE for one in people),
        "sandboxes": len(list(sandboxes.iterdir())) if sandboxes.exists() else 0,
        "mib": private_mib(daemon.master),
    }


def signals(sheet: Sheet, long: bool) -> None:
    """A storm of signals with one TERM in it: it is heard."""
    many = 100_000 if long else 5_000
    storm = [signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGCHLD, signal.SIGCONT]
    with running() as (daemon, _server, _client):
        dice, term_at = random.Random(1), many // 2
        master, began = daemon.master, time.monotonic()
        for nth in range(many):
            try:
                master.send_signal(signal.SIGTERM if nth == term_at else dice.choice(storm))
            except psutil.NoSuchProcess:
                break
        sheet.add("signals", "sent", "", nth + 1)
        sheet.add("signals", "sent for", "s", time.monotonic() - began)
        assert daemon.process is not None
        if daemon.process.wait(60) != 0:
            sheet.broken("signals: the exit code after TERM was not 0")


def stops(sheet: Sheet, long: bool) -> None:
    """Stops while jobs do all that they should not: within stop_timeout_seconds, each time."""
    limit = 10.0 if long else 2.0
    for nth in range(200 if long else 2):
        with running(concurrency=5, stop_timeout_seconds=limit) as (daemon, server, client):
            does = ("block", "hold", "nap", "nothing")[nth % 4]
            job = client.enqueue(does, {"params": {"seconds": 60}})
            until(lambda: server.redis.hget(f"rrq:job:{job}", "start_time"), 10, "the job's start")  # noqa: B023
            began = time.monotonic()
            daemon.master.send_signal(signal.SIGTERM)
            assert daemon.process is not None
            code = daemon.process.wait(30)
            sheet.add("stops", f"with a job that does {does}", "s", time.monotonic() - began, f"<= {limit:g}")
            if code != 0 or any(one.is_running() for one in daemon._seen):
                sheet.broken(f"stops: {does}: exit code {code}, or somebody was left")


def master(sheet: Sheet, long: bool) -> None:
    """What the master costs while nothing happens."""
    with running() as (daemon, _server, _client):
        time.sleep(3.0 if long else 1.5)
        seconds = 30.0 if long else 3.0
        before = daemon.master.num_ctx_switches().voluntary
        time.sleep(seconds)
        woke = (daemon.master.num_ctx_switches().voluntary - before) / seconds
        sheet.add("master", "private memory", "MiB", private_mib(daemon.master), "<= 30")
        sheet.add("master", "wake-ups, idle", "a second", woke, "<= 2.5")


def dumps(sheet: Sheet, long: bool) -> None:
    """Stacks of everybody while one of them holds its interpreter."""
    from rrqd.local_socket import ask

    with running(processes=32 if long else 8, concurrency=2) as (daemon, server, client):
        job = client.enqueue("hold", {"params": {"seconds": 8 if long else 3.5}})
        until(lambda: server.redis.hget(f"rrq:job:{job}", "start_time"), 10, "the job's start")
        for _ in range(3):
            began = time.monotonic()
            entries = ask(daemon.folder / "state", {"command": "dump"})["entries"]
            sheet.add("dumps", "stacks of everybody", "s", time.monotonic() - began, "<= 1")
            told = {entry["child"] for entry in entries}
            if len([who for who in told if who.startswith("worker")]) < len(daemon.workers()):
                sheet.broken("dumps: not every worker's stacks are there")


SCENARIOS: dict[str, Callable[[Sheet, bool], None]] = {
    one.__name__: one
    for one in (kills, hangs, hups, reloads, chaos, signals, stops, master, dumps, fleet, cron, homes, live, model)
}


def soak(names: list[str], long: bool, nodes: int, minutes: float) -> Sheet:
    """Run them, one after the other."""
    sheet = Sheet(machine.facts())
    scenarios: dict[str, Callable[[Sheet, bool], None]] = {
        **SCENARIOS,
        "cron": partial(cron, nodes=nodes),
        "live": partial(live, minutes=minutes),
    }
    for name in names:
        known, began = len(sheet), time.monotonic()
        scenarios[name](sheet, long)
        print(table(sheet.figures(known)))
        print(f"({name} took {time.monotonic() - began:.0f} s)\n", flush=True)
    for note in sheet.notes:
        print(f"! {note}")
    return sheet


def failed(sheet: Sheet) -> list[str]:
    """What was missed or broken."""
    figures = [one for one in sheet.figures() if one.met is False]
    missed = [f"{one.bench}: {one.what}: {one.middle:.3g}, goal {one.goal}" for one in figures]
    return missed + [note for note in sheet.notes if note.startswith("BROKEN")]


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description="See what rrqd bears.")
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(SCENARIOS)}; none: all")
    parser.add_argument("--long", action="store_true", help="the long versions")
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="nodes of cron; left out: 2")
    parser.add_argument("--minutes", type=float, default=60.0, metavar="N", help="of live --long; left out: 60")
    words = parser.parse_args()
    heed_term()
    unknown = [name for name in words.names if name not in SCENARIOS]
    if unknown:
        parser.error(f"there is no scenario {unknown[0]!r}")
    return 1 if failed(soak(words.names or list(SCENARIOS), words.long, words.nodes, words.minutes)) else 0


if __name__ == "__main__":
    sys.exit(main())
