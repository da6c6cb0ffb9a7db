"""What the scripts are told of jobs and of next steps: plain values, ready for msgpack. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from rrqd.model.job import NOTHING, NewJob, Once, Until
from rrqd.model.steps import Step

_json = msgspec.json.Encoder().encode


def spec_of(job: NewJob, cancelled_retention_seconds: int) -> dict[str, Any]:
    """A job as ``enqueue.lua`` is told of it."""
    fields: list[Any] = []
    for name, value in (
        ("max_retries", job.max_retries),
        ("job_timeout_seconds", job.timeout_seconds),
        ("result_ttl_seconds", job.result_ttl_seconds),
        ("trace_context", job.trace_context),
        ("correlation_context", job.correlation_context),
        ("rrqd_policy", job.policy),
        ("rrqd_priority", job.priority if job.priority or job.tenant is None else None),
    ):
        if value is not None:
            fields += (name, text_of(value) if isinstance(value, bytes) else str(value))
    params = text_of(job.params)
    if job.args is not None:
        fields += ("job_args", text_of(job.args), "job_kwargs", params)
        params = "{}"
    for name, text in job.notes.items():
        fields += (name, text)
    spec: dict[str, Any] = {
        "id": job.id, "name": job.function, "queue": job.queue, "params": params,
        "fields": fields, "delay_ms": job.delay_ms,
    }  # fmt: skip
    if job.due_ms is not None:
        spec["due_ms"] = float(job.due_ms)
    if job.enqueue_time is not None:
        spec["enqueue_time"] = job.enqueue_time
    if job.priority is not None:
        spec["priority"] = str(job.priority)
    if job.once is not NOTHING:
        _like_it(job.once, spec)
    if job.parents:
        spec["parents"], spec["on_parent"], spec["retention"] = job.parents, job.on_parent, cancelled_retention_seconds
        fields += ("rrqd_parents", _json(job.parents).decode(), "rrqd_on_parent", job.on_parent)
    if job.tick is not None:
        spec["tick"] = {key: value for key, value in msgspec.structs.asdict(job.tick).items() if value is not None}
    if job.tags:
        spec["tags"] = job.tags
        fields += ("rrqd_tags", _json(job.tags).decode())
    if job.again:
        spec["again"] = True
    if job.throttles:
        spec["throttles"] = job.throttles
        fields += ("rrqd_throttles", _json(job.throttles).decode())
    if job.rate is not None:
        fields += ("rrqd_rate", job.rate.stored)
    if job.tenant is not None:
        fields += ("rrqd_tenant", job.tenant)
    if job.tenant is not None and not job.priority:
        spec["priority"] = f"fair {job.tenant}"
        fields += ("rrqd_priority", spec["priority"])
    elif (job.throttles or job.rate is not None) and job.priority is None:
        spec["priority"] = "0"  # so they wait in keys of ours, where no real worker takes them
        fields += ("rrqd_priority", "0")
    if job.listed:
        spec["listed"] = job.listed
        fields += ("rrqd_listed", job.listed)
    if job.track:
        spec["track"] = True
        fields += ("rrqd_tracked", "1")
    return spec


def _like_it(once: Once, spec: dict[str, Any]) -> None:
    """What the script does about other jobs like this one."""
    if once.unique_key is not None:
        spec["unique_key"], spec["unique_ttl"] = once.unique_key, once.unique_ttl_seconds
        if once.unique_until is not Until.ENQUEUED_TTL:
            spec["fields"] += ("rrqd_unique", f"{once.unique_until} {once.unique_key}")
    elif once.rate_limit_key is not None:
        spec["rate_limit_key"], spec["window"] = once.rate_limit_key, once.window_seconds
    elif once.debounce_key is not None:
        spec["debounce_key"], spec["window"] = once.debounce_key, once.window_seconds


def step_of(step: Step) -> dict[str, Any]:
    """What the script is told of a next step; what stays as it was is left out."""
    told: dict[str, Any] = {"on_parent": step.on_parent}
    for name, value in (("queue", step.queue), ("name", step.function), ("parents", step.parents or None)):
        if value is not None:
            told[name] = value
    if step.params is not None:
        told["params"] = text_of(step.params)
    if step.priority is not None:
        told["priority"] = str(step.priority) if step.priority else ""
    if step.parents:
        told["parents_json"] = _json(step.parents).decode()
    return told


def text_of(value: bytes) -> str:
    """msgpack text rather than binary: the older format that every server's cmsgpack reads."""
    return value.decode()
