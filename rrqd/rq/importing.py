"""From a job in RQ's keys to one of ours.

RQ's jobs are pickles, so reading them runs what they say: only for a server whose writers are trusted, and where the
application's classes can be imported.
"""

from __future__ import annotations

import json
import pickle
import zlib
from datetime import UTC, datetime
from typing import Any

from rrqd.exc import ClientError, JobExists
from rrqd.rq.codec import CodecError
from rrqd.rq.connection import Connection
from rrqd.rq.queue import Queue
from rrqd.rq.reference import NameUnknown
from rrqd.rq.values import Retry
from rrqd.store.rq_source import Found

_CALLBACKS = {
    "success_callback_name": "on_success", "failure_callback_name": "on_failure",
    "stopped_callback_name": "on_stopped",
}  # fmt: skip


class NotMoved(Exception):
    """A job that can't be moved; the text says why."""


def enqueue(found: Found, place: Connection, *, may_pickle: bool) -> bool:
    """Enqueue it under its own id; false when that is there already. Raises NotMoved."""
    function, args, kwargs, options = read(found)
    for serializer in ("json", "pickle") if may_pickle else ("json",):
        queue = Queue(found.queue, place, serializer=serializer)
        try:
            if found.due_ms is not None:
                when = datetime.fromtimestamp(found.due_ms / 1000, UTC)
                queue.enqueue_at(when, function, args=args, kwargs=kwargs, **options)
            else:
                queue.enqueue_call(function, args, kwargs, **options)
            return True
        except JobExists:
            return False
        except CodecError as fault:
            why = str(fault)
        except (NameUnknown, ClientError, ValueError) as fault:
            raise NotMoved(str(fault)) from None
    raise NotMoved(why)


def read(found: Found) -> tuple[str, tuple[Any, ...], dict[str, Any], dict[str, Any]]:
    """Function, arguments and options of an enqueue. Raises NotMoved."""
    field = found.fields.get
    raw = field(b"data")
    if raw is None:
        raise NotMoved("it has no data: it has expired, or is no job of RQ's")
    try:
        try:
            raw = zlib.decompress(raw)
        except zlib.error:
            pass  # older ones are not compressed
        function, instance, args, kwargs = pickle.loads(raw)
        meta = pickle.loads(field(b"meta", b"")) if field(b"meta") else None
    except Exception as fault:
        raise NotMoved(f"its data can't be read here: {type(fault).__name__}: {fault}") from None
    if instance is not None:
        args = (instance, *args)
        function = f"{type(instance).__module__}.{type(instance).__qualname__}.{function}"
    options: dict[str, Any] = {"job_id": found.id}
    for name, option in (("timeout", "timeout"), ("result_ttl", "result_ttl"), ("failure_ttl", "failure_ttl"),
                         ("ttl", "ttl")):  # fmt: skip
        if field(name.encode()):
            options[option] = int(found.fields[name.encode()])
    if field(b"description"):
        options["description"] = found.fields[b"description"].decode(errors="replace")
    if meta:
        options["meta"] = meta
    for name, option in _CALLBACKS.items():
        if field(name.encode()):
            options[option] = found.fields[name.encode()].decode()
    if field(b"retries_left") and int(found.fields[b"retries_left"]) > 0:
        intervals = json.loads(found.fields.get(b"retry_intervals", b"0"))
        options["retry"] = Retry(max=int(found.fields[b"retries_left"]), interval=intervals or 0)
    return str(function), tuple(args), dict(kwargs), options
