"""What ``rrqd top`` tells of one thing that was chosen: a job, or a queue with what waits in it. Pure: a view of the
API in, lines of text out, as long as they may be."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import quote

from rrqd.cli.output import printable

FACTS = (
    ("status", "status"), ("function", "function"), ("queue", "queue"), ("failed attempts", "attempts"),
    ("worker", "worker"),
)  # fmt: skip
TIMES = (("enqueued", "enqueue_time"), ("due", "next_run"), ("started", "start_time"), ("ended", "completion_time"))
SHORT = 2000
"""Characters that are shown of parameters."""


def place_of(tab: str, row: dict[str, Any]) -> str:
    """The view of the API that tells of a row; nothing where there is none. Of a group of failures: its newest job."""
    match tab:
        case "queues":
            return f"queues/{quote(row['queue'], '')}"
        case "running":
            return f"jobs/{quote(row['id'], '')}"
        case "failures" if row.get("jobs"):
            return f"jobs/{quote(row['jobs'][0], '')}"
    return ""


def told(view: dict[str, Any]) -> list[str]:
    """A job or a queue, in lines."""
    found = _queue(view) if "jobs" in view else _job(view)
    return [printable(line) for text in found for line in text.splitlines() or [""]]


def _job(job: dict[str, Any]) -> list[str]:
    found = [f"job {job.get('id', '')}", ""]
    found += [f"{label:<16}{job[key]}" for label, key in FACTS if job.get(key) not in (None, "")]
    found += [f"{label:<16}{when(job[key])}" for label, key in TIMES if job.get(key)]
    found += [f"why it waits    {one['text']}" for one in job.get("why") or []]
    if job.get("progress") is not None:
        found.append(f"progress        {_short(job['progress'])}")
    found.append(f"params          {_short(job.get('params'))}")
    if job.get("last_error"):
        found += ["", job["last_error"], (job.get("error") or {}).get("traceback") or ""]
    if job.get("log"):
        found += ["", *(f"{when(line['at'])}  {line['message']}" for line in job["log"])]
    return found


def _queue(view: dict[str, Any]) -> list[str]:
    queue = view["queue"]
    state = "paused" if queue["paused"] else "no pool here reads it" if queue.get("read_here") is False else "served"
    found = [f"queue {queue['queue']}: {queue['due']} due, {queue['scheduled']} scheduled; {state}", ""]
    found += [
        f"{row['id']}  {row.get('function') or ''}  {row.get('status') or 'gone'}  {when(row.get('enqueued'))}"
        for row in view["jobs"]
    ]
    return [*found, f"… of {view['total']}"] if view.get("next") else found


def when(moment: Any) -> str:
    """A time of the API, without its fraction; they are UTC."""
    return str(moment or "")[:19].replace("T", " ")


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= SHORT else text[:SHORT] + "…"
