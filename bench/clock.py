"""A job every second on several nodes, of which one or another is restarted or killed all the time."""

from __future__ import annotations

import random
import signal
import subprocess
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil

from bench.daemon import STOP_SECONDS, Rrqd
from bench.server import Server, until
from bench.sheet import Sheet, percentile
from rrqd.client import SyncRRQClient

SECOND = timedelta(seconds=1)
LATE_SECONDS = 0.25
SHORT_SECONDS, LONG_SECONDS = 8, 1800
KEPT_SECONDS = 7200


class Node(Rrqd):
    """A node with a timetable, which may be stopped and started again in its folder."""

    def __init__(self, server: Server, ledger: str) -> None:
        self._ledger = ledger
        super().__init__(server, processes=1, concurrency=10)

    def write_config(self, tables: dict[str, Any]) -> None:
        entry = {
            "name": "tick", "function_name": "ledger", "schedule": "* * * * * *", "missed": "all",
            "params": {"file": self._ledger}, "result_ttl_seconds": KEPT_SECONDS,
        }  # fmt: skip
        super().write_config({**tables, "rrq": {**tables["rrq"], "cron_jobs": [entry]}})

    def end(self, number: int) -> None:
        """A signal to the master, and its end."""
        assert self.process is not None
        self.processes()
        self.process.send_signal(number)
        self.process.wait(STOP_SECONDS)

    def begin(self) -> None:
        """Start it again; what it logs is added."""
        with (self.folder / "log").open("ab") as log:
            self.process = psutil.Popen(
                self.command(), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.environment(), start_new_session=True,
            )  # fmt: skip

    def ready_times(self) -> int:
        return self.log().count('"rrqd.ready"')


def cron(sheet: Sheet, long: bool, nodes: int = 2) -> None:
    """`* * * * * *` while nodes come and go: each tick enqueued once, and its job started soon."""
    seconds, dice = LONG_SECONDS if long else SHORT_SECONDS, random.Random(11)
    with Server() as server, TemporaryDirectory(prefix="rrqd-bench-cron-") as folder, ExitStack() as stack:
        ledger = Path(folder) / "ledger"
        ledger.touch()
        crowd = [stack.enter_context(Node(server, str(ledger))) for _ in range(nodes)]
        until(lambda: _fired(server) >= 2, 20, "the first ticks")
        began, restarts = time.monotonic(), Counter[str]()
        while time.monotonic() - began < seconds:
            restarts[_trouble(dice.choice(crowd), dice, long)] += 1
        fired = _fired(server)
        until(lambda: _fired(server) > fired, 20, "a tick after the last restart")
        with ThreadPoolExecutor(nodes) as all_at_once:
            list(all_at_once.map(lambda node: node.end(signal.SIGTERM), crowd))
        for what, number in restarts.items():
            sheet.add("cron", f"{nodes} nodes: {what}", "", number)
        _judge(sheet, server, nodes, ledger)


def _trouble(node: Node, dice: random.Random, long: bool) -> str:
    """Something happens to a node; afterwards it is there again. Answers what it was."""
    what = dice.choice(["restarts", "stewards killed", *(["masters killed"] if long else [])])
    ready = node.ready_times()
    if what == "stewards killed":
        for steward in node.named("rrqd: steward"):
            steward.kill()
    else:
        node.end(signal.SIGTERM if what == "restarts" else signal.SIGKILL)
        time.sleep(dice.uniform(0, 1))
        node.begin()
        until(lambda: node.ready_times() > ready, 60, "the node to be back")
    time.sleep(dice.uniform(0, 2))
    return what


def _fired(server: Server) -> int:
    return int(server.redis.hget("rrqd:cron:tick", "fired") or 0)


def _judge(sheet: Sheet, server: Server, nodes: int, ledger: Path) -> None:
    """Every second from the first tick to the last has one job, which ran; and how soon."""
    name = f"{nodes} nodes"
    jobs = {key.decode().removeprefix("rrq:job:"): key for key in server.redis.scan_iter("rrq:job:cron:tick:*", 1000)}
    ticks = sorted(datetime.strptime(job[-16:], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) for job in jobs)
    gaps = sum(later - tick != SECOND for tick, later in pairwise(ticks))
    twice = _fired(server) - len(ticks)
    if gaps or twice:
        sheet.broken(f"cron: {name}: {gaps} gaps in {len(ticks)} ticks, {twice} enqueued twice")
    runs = Counter(ledger.read_text().split())
    waiting = server.redis.zcard("rrq:queue:default")
    if lost := len(jobs.keys() - runs.keys()) - waiting:
        sheet.broken(f"cron: {name}: {lost} of {len(ticks)} jobs never ran")
    late = []
    with SyncRRQClient(config={"redis_dsn": server.dsn}) as client:
        for job_id in runs:
            job = client.get_job(job_id)
            started = job.moment("start_time") if job is not None else None
            if started is not None:
                tick = datetime.strptime(job_id[-16:], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
                late.append((started - tick).total_seconds())
    sheet.add("cron", f"{name}: ticks", "", len(ticks))
    sheet.add("cron", f"{name}: enqueued twice or not at all", "", twice + gaps)
    sheet.add("cron", f"{name}: run twice", "", sum(times > 1 for times in runs.values()))
    sheet.add("cron", f"{name}: started after, p50", "ms", 1000 * percentile(late, 0.5))
    sheet.add("cron", f"{name}: started after, p99", "ms", 1000 * percentile(late, 0.99))
    share = 100 * sum(one > LATE_SECONDS for one in late) / len(late)
    sheet.add("cron", f"{name}: started later than 250 ms", "%", share, "<= 10")
