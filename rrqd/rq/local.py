"""``Queue(is_async=False)``: the function is run at once, in the caller, and nothing is stored.

Arguments and result still go through JSON and back, so that what works here works with a worker.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from typing import Any

import msgspec

from rrqd import clock
from rrqd.model.job import Job as StoredJob
from rrqd.rq import record
from rrqd.rq.current import current
from rrqd.rq.job import Job
from rrqd.rq.reference import allow_all, find


def run_here(job: Job) -> Job:
    """Run it; the job then shows how it ended, as one from a worker does."""
    began = clock.wall().isoformat()
    fields = {
        "id": job.id, "function_name": job.function, "queue_name": job.origin, "enqueue_time": began,
        "start_time": began, "status": "COMPLETED",
    }  # fmt: skip
    call = record.read_call(job.params(), job.subject, allow_all, lambda: job.connection.signing_key)
    callback: tuple[str, tuple[Any, ...]]
    try:
        with current(lambda: job):
            value = job.func(*call.args, **call.kwargs)
            if inspect.isawaitable(value):
                value = asyncio.run(_await(value))
        pickled = job.serializer == record.PICKLE
        stored = record.write_result(value, pickled, job.subject, lambda: job.connection.signing_key)
        fields["result"] = msgspec.json.encode(stored).decode()
        callback = "on_success", (value,)
    except Exception as fault:
        text = "".join(traceback.format_exception(type(fault), fault, _own_frames(fault)))
        error = {"type": type(fault).__qualname__, "message": str(fault), "traceback": text, "attempt": 1}
        fields.update(status="FAILED", last_error=str(fault), rrqd_error=msgspec.json.encode(error).decode())
        callback = "on_failure", (type(fault), fault, fault.__traceback__)
    fields["completion_time"] = clock.wall().isoformat()
    raw = {name.encode(): text.encode() for name, text in fields.items()}
    ended = StoredJob.read(job.id, raw)
    assert ended is not None
    job.take(ended, float(clock.wall_ms()))
    if callback[0] in job.callbacks:
        find(job.callbacks[callback[0]].path)(job, job.connection, *callback[1])
    return job


async def _await(value: Any) -> Any:
    return await value


def _own_frames(fault: BaseException) -> Any:
    return fault.__traceback__.tb_next if fault.__traceback__ is not None else None
