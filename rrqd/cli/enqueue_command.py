"""``rrqd enqueue``: put a job into a queue, and perhaps wait for its end."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, json_text
from rrqd.cli.session import dsn_option, run
from rrqd.exc import InvalidRequest, UnknownParent
from rrqd.job import Happened, JobResult, JobStatus
from rrqd.model.family import OnParent

EX_TEMPFAIL = 75
OPTION_NAMES = {
    "function_name": "NAME",
    "params": "--params",
    "queue_name": "--queue",
    "defer_by_seconds": "--delay",
    "defer_until": "--at",
    "unique_key": "--unique",
    "unique_ttl_seconds": "--unique-ttl",
    "unique_until": "--unique-until",
    "rate_limit_key": "--rate-limit",
    "rate_limit_seconds": "--rate-limit-seconds",
    "debounce_key": "--debounce",
    "debounce_seconds": "--debounce-seconds",
    "result_ttl_seconds": "--result-ttl",
    "trace_context": "--trace",
    "job_id": "--job-id",
    "max_retries": "--max-retries",
    "job_timeout_seconds": "--timeout",
    "tags": "--tag",
    "throttles": "--throttle",
    "tenant": "--tenant",
    "rate": "--rate",
    "priority": "--priority",
    "depends_on": "--depends-on",
    "on_parent": "--on-parent",
}

#: What a person is told beside the id.
NOTES = {
    Happened.DUPLICATE: "no new job: this one has the unique key",
    Happened.REPLACED: "no new job: this one had not started, and is now what was asked for",
    Happened.LIMITED: "nothing was enqueued: the rate limit let nothing through",
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
@click.option(
    "--unique-ttl", "unique_ttl_seconds", type=int, metavar="SECONDS", help="How long that key is held at most."
)
@click.option(
    "--unique-until",
    type=click.Choice(["enqueued-ttl", "started", "finished"]),
    help="When it is free again; left out: enqueued-ttl, RRQ's rule.",
)
@click.option("--rate-limit", "rate_limit_key", metavar="KEY", help="The first job of a window with this key only.")
@click.option("--rate-limit-seconds", type=float, metavar="SECONDS", help="The length of that window.")
@click.option("--debounce", "debounce_key", metavar="KEY", help="The last job of a burst with this key only.")
@click.option(
    "--debounce-seconds", type=float, metavar="SECONDS", help="How long after the last of the burst it is due."
)
@click.option("--job-id", metavar="ID", help="Left out: a new UUID.")
@click.option("--max-retries", type=click.IntRange(1), metavar="N", help="Attempts in all.")
@click.option("--timeout", "job_timeout_seconds", type=int, metavar="SECONDS", help="Longest time for one attempt.")
@click.option("--tag", "tags", multiple=True, metavar="TAG", help="A word to find it by; may be given many times.")
@click.option(
    "--throttle", "throttles", multiple=True, metavar="NAME", help="A throttle it runs under; may be given many times."
)
@click.option("--tenant", metavar="NAME", help="Whose job it is: tenants of a queue take turns.")
@click.option("--rate", metavar="NAME:N/UNIT", help="Starts at most so often, with all of that name: api:100/m.")
@click.option("--track", is_flag=True, default=None, help="Tell of its moves; rrqd events shows them.")
@click.option("--result-ttl", "result_ttl_seconds", type=int, metavar="SECONDS", help="How long its result is kept.")
@click.option(
    "--trace", "trace_context", multiple=True, metavar="NAME=TEXT", help="Trace context, such as traceparent=00-…."
)
@click.option("--priority", type=float, metavar="N", help="Higher runs first; 0 is what jobs have without it.")
@click.option("--depends-on", multiple=True, metavar="ID", help="Wait for this job to complete; may be given again.")
@click.option(
    "--on-parent",
    type=click.Choice([one.value for one in OnParent]),
    help="When such a job is buried or cancelled: wait on (left out), be cancelled, or run.",
)
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
    asked = {option: value for option, value in options.items() if value not in (None, ())}
    if trace := asked.get("trace_context"):
        asked["trace_context"] = read_pairs(trace, "--trace")
    asked["params"] = read_params(params)
    if queue is not None:
        asked["queue_name"] = queue
    try:
        return run(_enqueue(invocation, dsn, name, asked, wait_timeout if wait else None, as_json))
    except InvalidRequest as fault:
        raise click.UsageError(_in_our_words(str(fault))) from None
    except UnknownParent as fault:
        raise click.ClickException(_in_our_words(str(fault))) from None


def _in_our_words(text: str) -> str:
    """The client speaks of its options; here they have other names."""
    return re.sub(r"^params|[a-z]+(?:_[a-z]+)+", lambda found: OPTION_NAMES.get(found[0], found[0]), text)


def read_pairs(texts: Sequence[str], option: str) -> dict[str, str]:
    """``NAME=TEXT``, any number of them."""
    pairs = dict(text.split("=", 1) for text in texts if "=" in text)
    if len(pairs) < len(texts):
        raise click.BadParameter("must be NAME=TEXT, each name once", param_hint=option)
    return pairs


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
        report = await client.enqueue_report(name, asked)
        job_id = report.job_id
        if job_id is None or wait is None:
            data = {"job_id": job_id, "happened": report.happened.value}
            emit(data, as_json, lambda: click.echo(job_id) if job_id else None)
            if not as_json and report.happened in NOTES:
                complain(NOTES[report.happened])
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
