"""The rules of one run: the job's own over its handler's over its pool's over the settings'. Pure.

One ladder for both who need it: the worker that runs a job, and the steward that speaks for a worker that is gone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from rrqd.registry import NO_POLICY, HandlerPolicy

if TYPE_CHECKING:
    from rrqd.config.pool_table import PoolSettings
    from rrqd.config.settings import Settings


class RunPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """The rules for one run. ``max_retries`` counts attempts in all (RRQ's meaning)."""

    max_retries: int
    retry_delay_seconds: float
    max_retry_delay_seconds: float
    retry_jitter: float
    on_timeout: str
    result_ttl_seconds: int
    dlq_retention_seconds: int
    cancelled_retention_seconds: int


def lay(
    settings: Settings,
    pool: PoolSettings | None,
    handler: HandlerPolicy | None = None,
    *,
    own: Mapping[str, Any] | None = None,
    max_retries: int | None = None,
    result_ttl_seconds: int | None = None,
) -> RunPolicy:
    """Lay the rules over each other. ``own``: the job's ``rrqd_policy``; the numbers: its fields of RRQ's hash."""
    rrq, daemon = settings.rrq, settings.rrqd
    own, handler = own or {}, handler or NO_POLICY
    return RunPolicy(
        max_retries=_first(max_retries, handler.max_retries, pool and pool.max_retries, rrq.default_max_retries),
        retry_delay_seconds=_first(
            own.get("retry_delay_seconds"), handler.retry_delay_seconds, rrq.base_retry_delay_seconds
        ),
        max_retry_delay_seconds=_first(
            own.get("max_retry_delay_seconds"), handler.max_retry_delay_seconds, rrq.max_retry_delay_seconds
        ),
        retry_jitter=daemon.retry_jitter,
        on_timeout=_first(own.get("on_timeout"), handler.on_timeout, pool and pool.on_timeout, daemon.on_timeout),
        result_ttl_seconds=_first(result_ttl_seconds, rrq.default_result_ttl_seconds),
        dlq_retention_seconds=math.ceil(_first(own.get("failure_ttl_seconds"), daemon.dlq_retention_seconds)),
        cancelled_retention_seconds=math.ceil(daemon.cancelled_retention_seconds),
    )


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
