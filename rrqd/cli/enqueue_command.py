"""``rrqd enqueue``: put a job into a queue, and perhaps wait for its end."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, json_text
from rrqd.cli.session import dsn_option, run
from rrqd.exc import InvalidRequest
from rrqd.job import JobResult, JobStatus

EX_TEMPFAIL = 75
OPTION_NAMES = {
    "function_name": "NAME",
    "params": "--params",
    "queue_name": "--queue",
    "defer_by_seconds": "--delay",
    "defer_until": "--at",
    "unique_key": "--unique",
    "job_id": "--job-id",
    "max_retries": "--max-retries",
    "job_timeout_seconds": "--timeout",
}


@click.command("enqueue")
@click.argument("name")
@click.option(
    "--params", metavar="JSON|@FILE|-", default=None, help="Parameters: a JSON object, a file with one, or stdin."
)
@click.option("--queue", metavar="NAME", help="Left out: the default queue.")
@click.option(
    "--delay", "defer_by_seconds", type=float, metavar="SECONDS", help="Not before this many seconds from now."
)
@click.option("--at", "defer_until", metavar="TIME", help="Not before this RFC 3339 time; UTC if it names no zone.")
@click.option("--unique", "unique_key", metavar="KEY", help="If a job with this key is there: its id, no new job.")
@click.option("--job-id", metavar="ID", help="Left out: a new UUID.")
@click.option("--max-retries", type=click.IntRange(1), metavar="N", help="Attempts in all.")
@click.option("--timeout", "job_timeout_seconds", type=int, metavar="SECONDS", help="Longest time for one attempt.")
@click.option("--wait", is_flag=True, help="Wait for the end and print the result.")
@click.option(
    "--wait-timeout",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    metavar="SECONDS",
    help="Longest time to wait.",
)
@dsn_option
@config_option
@json_option
@click.pass_obj
def enqueue(
    invocation: Invocation,
    /,
    name: str,
    params: str | None,
    queue: str | None,
    wait: bool,
    wait_timeout: float,
    dsn: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Put a job for the handler NAME into a queue and print its id.

    With --wait, its id goes to stderr and its result to stdout; the exit code is 0 when it completed, 1 when it failed
    or was cancelled, 75 when it had not ended in time.
    """
    asked = {option: value for option, value in options.items() if value is not None}
    asked["params"] = read_params(params)
    if queue is not None:
        asked["queue_name"] = queue
    try:
        return run(_enqueue(invocation, dsn, name, asked, wait_timeout if wait else None, as_json))
    except InvalidRequest as fault:
        raise click.UsageError(_in_our_words(str(fault))) from None


def _in_our_words(text: str) -> str:
    """The client speaks of its options; here they have other names."""
    name, gap, rest = text.partition(" ")
    return OPTION_NAMES.get(name, name) + gap + rest


def read_params(text: str | None) -> dict[str, Any]:
    """The JSON object that ``--params`` names. Raises a usage error that says where it is wrong."""
    if text is None:
        return {}
    try:
        value = json.loads(_params_text(text))
    except (ValueError, RecursionError) as fault:
        why = "not UTF-8 text" if isinstance(fault, UnicodeError) else f"not valid JSON: {fault}"
        raise click.BadParameter(why, param_hint="--params") from None
    if not isinstance(value, dict):
        raise click.BadParameter('must be a JSON object, like {"name": "Ada"}', param_hint="--params")
    return value


def _params_text(text: str) -> str:
    if text == "-":
        return sys.stdin.buffer.read().decode() if sys.stdin is not None else ""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_bytes().decode()
    except OSError as fault:
        raise click.BadParameter(f"cannot read {text[1:]}: {fault.strerror}", param_hint="--params") from None


async def _enqueue(
    invocation: Invocation, dsn: str | None, name: str, asked: dict[str, Any], wait: float | None, as_json: bool
) -> int:
    from rrqd.client import RRQClient

    async with RRQClient(config_path=str(invocation.load().path), dsn=dsn, timeout_seconds=5.0) as client:
        job_id = await client.enqueue(name, asked)
        if wait is None:
            emit({"job_id": job_id}, as_json, lambda: click.echo(job_id))
            return 0
        if not as_json:
            complain(job_id)
        return _report(job_id, await client.wait_for_completion(job_id, timeout_seconds=wait), wait, as_json)


def _report(job_id: str, end: JobResult | None, wait: float, as_json: bool) -> int:
    status = end.status.value if end is not None else None
    data = {
        "job_id": job_id,
        "status": status,
        "result": end.result if end is not None else None,
        "error": end.last_error if end is not None and end.status is not JobStatus.COMPLETED else None,
    }
    if end is None:
        emit(data, as_json, lambda: None)
        complain(f"job {job_id} has not ended within {wait:g} s; look again with: rrqd job show {job_id}")
        return EX_TEMPFAIL
    if end.status is JobStatus.COMPLETED:
        emit(data, as_json, lambda: click.echo(json_text(end.result)))
        return 0
    emit(data, as_json, lambda: None)
    complain(f"job {job_id} is {status}: {end.last_error or 'no reason is stored'}")
    return 1
