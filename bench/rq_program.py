"""A program for RQ, run by an interpreter that has it, or by ours with ``rrqd.rq``: only the import differs.

``rq_program.py PACKAGE enqueue|fill DSN JOBS``: prints JSON. ``enqueue``: calls one by one, and how long they took.
``fill``: the same in batches. ``rq_program.py PACKAGE ended DSN``: first start, last end and number of finished jobs.
"""

from __future__ import annotations

import json
import sys
import time
from importlib import import_module
from typing import Any

BATCH = 500
QUEUE = "bench"


def main(package: str, what: str, dsn: str, jobs: int = 0) -> dict[str, Any]:
    from redis import Redis

    face = import_module(package)
    queue = face.Queue(QUEUE, connection=Redis.from_url(dsn))
    if what == "ended":
        registry = import_module(f"{package}.registry").FinishedJobRegistry(queue=queue)
        job_class = import_module(f"{package}.job").Job
        found = job_class.fetch_many(registry.get_job_ids(), connection=queue.connection)
        done = [job for job in found if job is not None and job.ended_at is not None]
        starts = [job.started_at.timestamp() for job in done]
        ends = [job.ended_at.timestamp() for job in done]
        return {"jobs": len(done), "seconds": max(ends, default=0.0) - min(starts, default=0.0)}
    queue.enqueue("calls.nothing")  # connected, scripts loaded
    began = time.perf_counter()
    if what == "fill":
        for start in range(0, jobs, BATCH):
            part = range(start, min(start + BATCH, jobs))
            queue.enqueue_many([face.Queue.prepare_data("calls.nothing", (number,)) for number in part])
    else:
        for number in range(jobs):
            queue.enqueue("calls.nothing", number)
    return {"jobs": jobs, "seconds": time.perf_counter() - began}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:4], *map(int, sys.argv[4:]))))
