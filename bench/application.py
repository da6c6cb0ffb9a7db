"""The application's side, as a program of its own: our interpreter runs it with rrqd's client, the real rrq's with the
real client. It imports nothing of the bench. Prints one JSON object.

    application.py enqueue <rrqd|rrq> <dsn> <jobs>
    application.py latency <rrqd|rrq> <dsn> <jobs> <folder for a socket>
    application.py handoff redis      <dsn> <jobs> <folder for a socket>      two processes and a BLPOP, nothing else
"""

from __future__ import annotations

import asyncio
import importlib
import json
import random
import socket
import struct
import subprocess
import sys
import time
from typing import Any

#: Calls in flight at a time in the concurrent measurement.
IN_FLIGHT = 100
#: Pauses between jobs, so that neither side falls into step with the other.
PAUSE_SECONDS = (0.004, 0.012)
PATIENCE_SECONDS = 10.0


def client(package: str, dsn: str) -> Any:
    return importlib.import_module(f"{package}.client").RRQClient(config={"redis_dsn": dsn})


async def enqueue(package: str, dsn: str, jobs: int) -> dict[str, float]:
    """Jobs a second, one call after the other, many calls at once, and all in one call where there is one."""
    asking = client(package, dsn)
    await asking.enqueue("nothing", {"queue_name": "warm"})
    rates = {}

    alone = max(1, jobs // 10)
    began = time.perf_counter()
    for _ in range(alone):
        await asking.enqueue("nothing", {"queue_name": "single"})
    rates["single"] = alone / (time.perf_counter() - began)

    together = max(IN_FLIGHT, jobs // 4)
    began = time.perf_counter()
    for _ in range(together // IN_FLIGHT):
        await asyncio.gather(*(asking.enqueue("nothing", {"queue_name": "together"}) for _ in range(IN_FLIGHT)))
    rates["concurrent"] = (together // IN_FLIGHT) * IN_FLIGHT / (time.perf_counter() - began)

    if hasattr(asking, "enqueue_many"):
        began = time.perf_counter()
        await asking.enqueue_many([("nothing", {"queue_name": "many"})] * jobs)
        rates["many"] = jobs / (time.perf_counter() - began)
    await asking.close()
    return rates


def ear(folder: str) -> socket.socket:
    """Where the handlers' datagrams arrive."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(f"{folder}/{random.getrandbits(32):08x}.sock")
    return sock


async def latency(package: str, dsn: str, jobs: int, folder: str) -> dict[str, list[float]]:
    """Milliseconds from just before the enqueue call to the first line of the handler, job after job."""
    asking, loop, heard = client(package, dsn), asyncio.get_running_loop(), ear(folder)
    heard.setblocking(False)
    found: list[float] = []
    for nth in range(-5, jobs):  # the first few warm up
        asked_ns = time.monotonic_ns()
        await asking.enqueue("stamp", {"params": {"nth": nth, "to": heard.getsockname()}})
        data = await asyncio.wait_for(loop.sock_recv(heard, 64), PATIENCE_SECONDS)
        which, began_ns = struct.unpack("<qq", data)
        if which != nth:
            raise RuntimeError(f"job {which} ran when it was the turn of {nth}")
        if nth >= 0:
            found.append((began_ns - asked_ns) / 1e6)
        await asyncio.sleep(random.uniform(*PAUSE_SECONDS))
    await asking.close()
    return {"ms": found}


def handoff(dsn: str, jobs: int, folder: str) -> dict[str, list[float]]:
    """The same with nothing between the two sides but a list: what this server and machine can do."""
    import redis

    heard, link = ear(folder), redis.Redis.from_url(dsn)
    heard.settimeout(PATIENCE_SECONDS)
    address = str(heard.getsockname())
    command = [sys.executable, "-P", __file__, "take", "redis", dsn, str(jobs + 5), address]
    taker = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    found: list[float] = []
    try:
        for nth in range(-5, jobs):
            asked_ns = time.monotonic_ns()
            link.lpush("bench:handoff", nth)
            _, began_ns = struct.unpack("<qq", heard.recv(64))
            if nth >= 0:
                found.append((began_ns - asked_ns) / 1e6)
            time.sleep(random.uniform(*PAUSE_SECONDS))
        taker.wait(PATIENCE_SECONDS)
    finally:
        taker.kill()
    return {"ms": found}


def take(dsn: str, jobs: int, address: str) -> dict[str, float]:
    """The taking side of ``handoff``."""
    import redis

    voice, link = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM), redis.Redis.from_url(dsn)
    for _ in range(jobs):
        item = link.blpop(["bench:handoff"], 30)
        if item is None:
            raise TimeoutError("nothing was handed off in 30 s")
        voice.sendto(struct.pack("<qq", int(item[1]), time.monotonic_ns()), address)
    return {}


def main(words: list[str]) -> Any:
    do, package, dsn, jobs, *more = words
    match do:
        case "enqueue":
            return asyncio.run(enqueue(package, dsn, int(jobs)))
        case "latency":
            return asyncio.run(latency(package, dsn, int(jobs), *more))
        case "handoff":
            return handoff(dsn, int(jobs), *more)
        case "take":
            return take(dsn, int(jobs), *more)
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
