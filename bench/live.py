"""A dashboard that people leave open: does the web process hold on to what it has shown?

A part of `python -m bench.soak`.

Each browser listens to the stream of news, comes again when that ends, and at each piece of news looks at the next page
(the script of the real pages looks at the same one; this way every page is seen). Meanwhile jobs come, run and fail.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import cycle, islice
from statistics import median

import httpx
import psutil

from bench.daemon import Rrqd
from bench.machine import private_mib
from bench.pages import JOBS, PAGES, QUEUES, fill
from bench.server import Server
from bench.sheet import Sheet
from rrqd.client import RRQClient

SHORT_SECONDS, LONG_MINUTES = 12.0, 60.0
BROWSERS = 4
SHORT_JOBS, SHORT_QUEUES = 5_000, 20
JOBS_A_SECOND = 5
KEPT_SECONDS = 30


@dataclass(slots=True)
class Seen:
    """What the browsers got. ``faults``: what was not as it should be."""

    ticks: int = 0
    streams: int = 0
    page_ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    faults: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Sample:
    """The web process and the server at one moment. ``clients``: connections that the server has."""

    web_mib: float
    descriptors: int
    clients: int
    server_mib: float


def live(sheet: Sheet, long: bool, minutes: float = LONG_MINUTES) -> None:
    """Pages of much (long: a million jobs in a thousand queues) are looked at for an hour; memory stays as it is."""
    seconds = minutes * 60 if long else SHORT_SECONDS
    with Server() as server:
        asyncio.run(fill(server.dsn, *((JOBS, QUEUES) if long else (SHORT_JOBS, SHORT_QUEUES))))
        with Rrqd(server, processes=2, concurrency=10) as daemon:
            (web,) = daemon.named("rrqd: web")
            began = sum(web.cpu_times()[:2])
            seen, samples = asyncio.run(_watch(server, daemon, web, seconds, 1 if long else len(PAGES)))
            if [one.pid for one in daemon.named("rrqd: web")] != [web.pid]:
                sheet.broken("live: the web process was replaced")
                return
            spent = sum(web.cpu_times()[:2]) - began
    sheet.add("live", "watched for", "s", seconds)
    sheet.add("live", f"pages seen by {BROWSERS} browsers", "", sum(map(len, seen.page_ms.values())))
    sheet.add("live", "pieces of news", "", seen.ticks)
    sheet.add("live", "streams", "", seen.streams)
    for page, spent_ms in seen.page_ms.items():
        sheet.add("live", f"/{page}, p50", "ms", median(spent_ms))
    sheet.add("live", "processor time of the web process", "ms a second", 1000 * spent / seconds)
    _judge(sheet, samples)
    for fault in sorted(set(seen.faults))[:10]:
        sheet.broken(f"live: {seen.faults.count(fault)} times: {fault}")


def _judge(sheet: Sheet, samples: list[Sample]) -> None:
    """The last quarter against the second: in the first everything is used for the first time."""
    quarter = len(samples) // 4
    second, last = samples[quarter : 2 * quarter], samples[-quarter:]

    def middles(what: str) -> tuple[float, float]:
        return median(getattr(one, what) for one in second), median(getattr(one, what) for one in last)

    for what, name, goal in (("web_mib", "web process, private memory", 3), ("server_mib", "server's memory", 5)):
        before, after = middles(what)
        sheet.add("live", f"{name}, second quarter", "MiB", before)
        sheet.add("live", f"{name}, last quarter", "MiB", after)
        sheet.add("live", f"{name}, more", "%", 100 * (after / before - 1), f"<= {goal}")
    for what, name in (("descriptors", "web process, descriptors"), ("clients", "server's clients")):
        before, after = middles(what)
        sheet.add("live", f"{name}, second quarter", "", before)
        sheet.add("live", f"{name}, more in the last", "", after - before, "<= 1")


async def _watch(
    server: Server, daemon: Rrqd, web: psutil.Process, seconds: float, looks: int
) -> tuple[Seen, list[Sample]]:
    seen, samples, ends = Seen(), list[Sample](), time.monotonic() + seconds
    # An idle connection is left before the server does: a browser would quietly ask again, this client does not.
    limits = httpx.Limits(keepalive_expiry=1.0)
    async with httpx.AsyncClient(base_url=daemon.http, timeout=20, limits=limits) as http:
        others = [asyncio.create_task(_browser(http, nth, looks, seen)) for nth in range(BROWSERS)]
        others.append(asyncio.create_task(_trickle(server.dsn)))
        while time.monotonic() < ends:
            await asyncio.sleep(min(10.0, seconds / 24))
            samples.append(_sample(server, web))
            for one in others:
                if one.done():
                    one.result()  # it never ends but by a fault
        for one in others:
            one.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    return seen, samples


def _sample(server: Server, web: psutil.Process) -> Sample:
    info = server.redis.info()
    return Sample(private_mib(web), web.num_fds(), info["connected_clients"], info["used_memory"] / 2**20)


async def _browser(http: httpx.AsyncClient, nth: int, looks: int, seen: Seen) -> None:
    pages = islice(cycle(PAGES), nth * len(PAGES) // BROWSERS, None)
    while True:
        seen.streams += 1
        try:
            async with http.stream("GET", "/api/v1/events") as news:
                async for line in news.aiter_lines():
                    if line == "event: tick":
                        seen.ticks += 1
                        for _ in range(looks):
                            await _look(http, next(pages), seen)
        except httpx.HTTPError as fault:
            seen.faults.append(f"stream: {fault!r}")
        await asyncio.sleep(0.5)


async def _look(http: httpx.AsyncClient, page: str, seen: Seen) -> None:
    began = time.perf_counter()
    try:
        answer = await http.get(f"/{page}", headers={"accept": "text/html"})
        if answer.status_code != 200:
            seen.faults.append(f"/{page}: {answer.status_code}")
    except httpx.HTTPError as fault:
        seen.faults.append(f"/{page}: {fault!r}")
    seen.page_ms[page].append((time.perf_counter() - began) * 1000)


async def _trickle(dsn: str) -> None:
    """Jobs that are soon forgotten; one in ten fails, and is forgotten too when nobody asks for it again."""
    options = {"result_ttl_seconds": KEPT_SECONDS, "tags": ["trickle"]}
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        for number in cycle(range(10)):
            if number:
                await client.enqueue("nap", {**options, "params": {"seconds": 0.2}})
            else:
                await client.enqueue("fail", {**options, "max_retries": 1})
            await asyncio.sleep(1 / JOBS_A_SECOND)
