"""``rrqd debug submit | generate-jobs | generate-workers | clear | stress-test``: made-up jobs, workers and load.

For trying out a set-up, never for one that works: what is made up looks real to every tool. Its ids start with
``test_``, by which ``clear`` finds them again.
"""

from __future__ import annotations

import asyncio
import fnmatch
import itertools
import json
import random
import uuid
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import click

from rrqd import clock
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, counted, emit
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.job import JobStatus
from rrqd.model.job import JOB_PREFIX, QUEUE_PREFIX, short_queue_name
from rrqd.store.jobs import MOVE_BATCH

TEST_QUEUE = "test"
"""Served by nobody, unless somebody configures it: made-up jobs shall wait, and not fail in a real worker."""
FUNCTIONS = ("send_email", "resize_image", "export_csv", "sync_database", "generate_report")
ERRORS = ("ConnectionError: connection refused", "KeyError: 'user_id'", "PermissionError: /var/spool")
STATUSES = [one.value.lower() for one in JobStatus if one is not JobStatus.UNKNOWN]
BEAT_SECONDS = 5.0
HEALTH_TTL_SECONDS = 15

queues_option = click.option(
    "--queue", "queues", multiple=True, metavar="NAME", help=f"May be given many times. Left out: {TEST_QUEUE}."
)


@click.command("submit")
@click.argument("function")
@click.option("--args", "listed", metavar="JSON", help="A JSON list, the parameter called args.")
@click.option("--kwargs", "named", metavar="JSON", help="A JSON object, the other parameters.")
@click.option("--queue", metavar="NAME", help="Left out: the default queue.")
@click.option("--delay", type=click.FloatRange(0), metavar="SECONDS", help="Not before so many seconds from now.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def submit(
    invocation: Invocation,
    function: str,
    listed: str | None,
    named: str | None,
    queue: str | None,
    delay: float | None,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Enqueue a job, as RRQ's command of that name does; rrqd enqueue can do more."""
    params = dict(_json(named, "--kwargs", dict) or {})
    if listed is not None:
        params["args"] = _json(listed, "--args", list)
    options: dict[str, Any] = {"params": params}
    if queue is not None:
        options["queue_name"] = queue
    if delay is not None:
        options["defer_by_seconds"] = delay
    (job_id,) = run(_enqueue(invocation, dsn, [(function, options)]))
    emit({"job_id": job_id}, as_json, lambda: click.echo(job_id))
    return 0


def _json(text: str | None, option: str, kind: type) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise click.BadParameter(f"not valid JSON: {fault}", param_hint=option) from None
    if not isinstance(value, kind):
        example = '{"name": "Ada"}' if kind is dict else '[1, "two"]'
        raise click.BadParameter(f"must be like {example}", param_hint=option)
    return value


async def _enqueue(invocation: Invocation, dsn: str | None, jobs: Sequence[tuple[str, dict[str, Any]]]) -> list[str]:
    from rrqd.client import RRQClient

    async with RRQClient(config_path=str(invocation.load().path), dsn=dsn, timeout_seconds=5.0) as client:
        return await client.enqueue_many(jobs)


# -- made-up jobs ------------------------------------------------------------------------------------------


@click.command("generate-jobs")
@click.option("--count", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="How many.")
@queues_option
@click.option(
    "--status", "statuses", multiple=True, metavar="STATUS", type=click.Choice(STATUSES, case_sensitive=False),
    help="May be given many times. Left out: all but active.",
)  # fmt: skip
@click.option(
    "--age-hours", type=click.FloatRange(0, 100_000), default=24.0, show_default=True, metavar="HOURS",
    help="They were enqueued within the last so many hours.",
)  # fmt: skip
@click.option(
    "--batch-size", type=click.IntRange(1, 5000), default=500, show_default=True, help="So many in one round trip."
)
@dsn_option
@config_option
@json_option
@click.pass_obj
def generate_jobs(
    invocation: Invocation,
    count: int,
    queues: tuple[str, ...],
    statuses: tuple[str, ...],
    age_hours: float,
    batch_size: int,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Write made-up jobs of every state, for a look at the tools.

    Those that wait are real: whoever serves their queue runs them.
    """
    names = [short_queue_name(name) for name in queues] or [TEST_QUEUE]
    wanted = [JobStatus.read(status.upper()) for status in statuses]
    wanted = wanted or [JobStatus.read(status.upper()) for status in STATUSES if status != "active"]
    series = uuid.uuid4().hex[:8]
    rows = (made_up(f"test_{series}_{n}", names, wanted, age_hours, clock.wall()) for n in range(count))
    run(_plant(invocation, dsn, rows, batch_size))
    emit(
        {"jobs": count, "queues": names, "ids": f"test_{series}_*"},
        as_json,
        lambda: click.echo(f"{count} jobs test_{series}_0 … in {', '.join(names)}"),
    )
    return 0


def made_up(
    job_id: str, queues: Sequence[str], statuses: Sequence[JobStatus], age_hours: float, now: datetime
) -> dict[str, str]:
    """The hash of a job that never was, with times that fit its state."""
    status = random.choice(statuses)
    enqueued = now - timedelta(hours=random.uniform(0, age_hours))
    began = min(now, enqueued + timedelta(seconds=random.expovariate(0.5)))
    ended = min(now, began + timedelta(seconds=random.expovariate(0.2)))
    fields = {
        "id": job_id,
        "function_name": random.choice(FUNCTIONS),
        "job_params": json.dumps({"user_id": random.randrange(1000)}),
        "enqueue_time": enqueued.isoformat(),
        "status": status.value,
        "current_retries": "0",
        "max_retries": "3",
        "queue_name": QUEUE_PREFIX + random.choice(queues),
        "result": "null",
    }
    if status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.ACTIVE):
        fields |= {"start_time": began.isoformat(), "worker_id": "test_worker"}
    if status in (JobStatus.COMPLETED, JobStatus.FAILED, JobStatus.CANCELLED):
        fields["completion_time"] = ended.isoformat()
    if status is JobStatus.COMPLETED:
        fields["result"] = json.dumps({"rows": random.randrange(1000)})
    if status in (JobStatus.FAILED, JobStatus.RETRYING):
        tries = 3 if status is JobStatus.FAILED else 1
        fields |= {"last_error": random.choice(ERRORS), "current_retries": str(tries)}
    return fields


async def _plant(invocation: Invocation, dsn: str | None, rows: Iterator[dict[str, str]], batch: int) -> None:
    async with open_store(invocation, dsn) as store:
        while part := list(itertools.islice(rows, batch)):
            await store.plant(part)


@click.command("clear")
@click.option(
    "--pattern", default="test_*", show_default=True, metavar="PATTERN", help="Ids like this; * and ? as in the shell."
)
@click.option("--confirm", is_flag=True, help="Do it; without this it is only said what would be done.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done, whatever else is given.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def clear(invocation: Invocation, pattern: str, confirm: bool, dry_run: bool, dsn: str | None, as_json: bool) -> int:
    """Remove jobs by their ids, and all that is stored of them. Looks at every key of the server. Running jobs stay."""
    doing = confirm and not dry_run
    matched, removed, running = run(_clear(invocation, dsn, pattern.removeprefix(JOB_PREFIX), doing))
    data = {"matched": matched, "removed": removed, "running": running, "dry_run": not doing}
    emit(
        data,
        as_json,
        lambda: click.echo(
            f"removed {counted(removed, 'job')}" if doing else f"would remove {counted(matched, 'job')}"
        ),
    )
    if not confirm and not dry_run and matched and not as_json:
        complain("nothing was removed; --confirm does it")
    if running:
        complain(f"{running} run and were left alone")
    return 0


async def _clear(invocation: Invocation, dsn: str | None, pattern: str, doing: bool) -> tuple[int, int, int]:
    matched = removed = running = 0
    async with open_store(invocation, dsn) as store:
        async for page in store.scan_jobs():
            ids = [job_id for job_id in page if fnmatch.fnmatchcase(job_id, pattern)]
            matched += len(ids)
            for at in range(0, len(ids) if doing else 0, MOVE_BATCH):
                purged = await store.purge(ids[at : at + MOVE_BATCH])
                removed += len(purged.removed)
                running += len(purged.running)
    return matched, removed, running


# -- made-up workers and load ------------------------------------------------------------------------------


@click.command("generate-workers")
@click.option("--count", type=click.IntRange(1, 10_000), default=5, show_default=True, help="How many.")
@click.option(
    "--duration",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="How long they live.",
)
@dsn_option
@config_option
@json_option
@click.pass_obj
def generate_workers(invocation: Invocation, count: int, duration: float, dsn: str | None, as_json: bool) -> int:
    """Let workers that are none say that they live, for a look at the tools. Ctrl-C ends them early."""
    series = uuid.uuid4().hex[:8]
    ids = [f"test_worker_{series}_{n}" for n in range(count)]
    if not as_json:
        complain(f"{count} workers test_worker_{series}_0 … live for {duration:g} s")
    run(_live(invocation, dsn, ids, duration))
    emit({"workers": ids}, as_json, lambda: None)
    return 0


async def _live(invocation: Invocation, dsn: str | None, ids: Sequence[str], duration: float) -> None:
    async with open_store(invocation, dsn) as store:
        until = clock.monotonic() + duration
        try:
            while True:
                await store.write_health([(worker, _report(worker)) for worker in ids], HEALTH_TTL_SECONDS)
                left = until - clock.monotonic()
                if left <= 0:
                    return
                await asyncio.sleep(min(left, BEAT_SECONDS))
        finally:
            await store.drop_health(ids)


def _report(worker_id: str) -> bytes:
    running = random.randrange(5)
    return json.dumps(
        {
            "active_jobs": running,
            "concurrency_limit": 10,
            "queues": [QUEUE_PREFIX + TEST_QUEUE],
            "status": "running" if running else "idle (no jobs)",
            "timestamp": clock.wall().isoformat(),
            "worker_id": worker_id,
        },
        sort_keys=True,
    ).encode()


@click.command("stress-test")
@click.option(
    "--jobs-per-second",
    type=click.FloatRange(0.1, 100_000),
    default=10.0,
    show_default=True,
    metavar="N",
    help="How many.",
)
@click.option(
    "--duration", type=click.FloatRange(0), default=60.0, show_default=True, metavar="SECONDS", help="How long."
)
@click.option(
    "--queues",
    multiple=True,
    metavar="NAME",
    help=f"May be given many times. Left out: {TEST_QUEUE}.",
)
@click.option("--function", default="stress_test", show_default=True, metavar="NAME", help="Jobs of this function.")
@dsn_option
@config_option
@json_option
@click.pass_obj
def stress_test(
    invocation: Invocation,
    jobs_per_second: float,
    duration: float,
    queues: tuple[str, ...],
    function: str,
    dsn: str | None,
    as_json: bool,
) -> int:
    """Enqueue jobs at a steady rate, and tell the rate that was reached. Ids start with test_, for clear."""
    names = [short_queue_name(name) for name in queues] or [TEST_QUEUE]
    number, seconds = run(_press(invocation, dsn, function, names, jobs_per_second, duration))
    data = {
        "jobs": number,
        "seconds": round(seconds, 3),
        "jobs_per_second": round(number / seconds, 1) if seconds else None,
    }
    emit(data, as_json, lambda: click.echo(f"{number} jobs in {seconds:.1f} s, {data['jobs_per_second']} a second"))
    return 0


async def _press(
    invocation: Invocation, dsn: str | None, function: str, queues: Sequence[str], rate: float, duration: float
) -> tuple[int, float]:
    from rrqd.client import RRQClient

    series, number = uuid.uuid4().hex[:8], 0
    async with RRQClient(config_path=str(invocation.load().path), dsn=dsn, timeout_seconds=5.0) as client:
        began = clock.monotonic()
        while (passed := clock.monotonic() - began) < duration:
            due = int(rate * passed) + 1 - number
            if due > 0:
                wishes = [
                    (
                        function,
                        {"queue_name": queues[n % len(queues)], "job_id": f"test_{series}_{n}", "params": {"n": n}},
                    )
                    for n in range(number, number + due)
                ]
                number += len(await client.enqueue_many(wishes))
            await asyncio.sleep(max(0.0, min(number / rate, duration) - (clock.monotonic() - began), 0.001))
        return number, clock.monotonic() - began
