"""Where a client's settings come from: a mapping in RRQ's form, or the file that the daemon reads too.

Rule: what a file needs to be read is loaded only by those who use a file.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rrqd.dsn import Endpoint
from rrqd.exc import InvalidRequest
from rrqd.model.request import Defaults
from rrqd.redact import redact
from rrqd.store import StorePolicy, policy_of

#: The keys of ``RRQClient(config={...})``: RRQ's, and from [rrqd] what clients need to know.
CONFIG_KEYS = (
    "redis_dsn", "queue_name", "max_retries", "job_timeout_seconds", "result_ttl_seconds",
    "idempotency_ttl_seconds", "correlation_mappings", "namespace", "enqueue_replicas",
)  # fmt: skip


def endpoint_of(dsn: str) -> Endpoint:
    """Where the server is. Raises InvalidRequest that shows no password."""
    try:
        return Endpoint.parse(dsn)
    except ValueError as fault:
        raise InvalidRequest(f"redis_dsn {redact(dsn)} {fault}") from None


def from_mapping(config: Mapping[str, Any]) -> tuple[str, Defaults, StorePolicy]:
    for key in config:
        if key not in CONFIG_KEYS:
            raise InvalidRequest(f"unknown config key {key!r}; known are {', '.join(CONFIG_KEYS)}")
    dsn = config.get("redis_dsn")
    if not isinstance(dsn, str) or not dsn:
        raise InvalidRequest("config needs a redis_dsn")
    queue = config.get("queue_name", "default")
    if not isinstance(queue, str) or not queue.strip():
        raise InvalidRequest("queue_name cannot be blank")
    options = {
        "queue": queue,
        "max_retries": config.get("max_retries"),
        "timeout_seconds": config.get("job_timeout_seconds"),
        "result_ttl_seconds": config.get("result_ttl_seconds"),
        "unique_ttl_seconds": config.get("idempotency_ttl_seconds", 21_600),
        "correlation": config.get("correlation_mappings") or {},
    }
    try:
        defaults = msgspec.convert(options, Defaults)
        known = {name: config[name] for name in ("namespace", "enqueue_replicas") if name in config}
        policy = msgspec.convert(known, StorePolicy)
    except msgspec.ValidationError as fault:
        raise InvalidRequest(f"config: {fault}") from None
    return dsn, defaults, policy


def from_file(path: str | None) -> tuple[str, Defaults, StorePolicy]:
    from rrqd.config.loader import client_dsn, load  # the file's checker is only needed by those who use a file

    loaded = load(path)
    settings, rrq = loaded.settings, loaded.settings.rrq
    defaults = Defaults(
        queue=rrq.default_queue_name,
        unique_ttl_seconds=rrq.default_unique_job_lock_ttl_seconds,
        max_params_bytes=settings.rrqd.max_params_bytes,
        correlation=dict(rrq.correlation_mappings),
    )
    return client_dsn(loaded), defaults, policy_of(settings)
