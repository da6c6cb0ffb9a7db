"""The names of what happens, once: log lines, metrics and documents use these words."""

from __future__ import annotations

from enum import StrEnum


class Event(StrEnum):
    """Names of log events about jobs and the store. Those about processes stand in ``supervisor/``."""

    JOB_STARTED = "job.started"
    JOB_COMPLETED = "job.completed"
    JOB_ADVANCED = "job.advanced"
    JOB_RETRYING = "job.retrying"
    JOB_SNOOZED = "job.snoozed"
    JOB_DIVERTED = "job.diverted"
    JOB_BURIED = "job.buried"
    JOB_CANCELLED = "job.cancelled"
    JOB_RELEASED = "job.released"
    JOB_SET_ASIDE = "job.set_aside"
    JOB_OVERDUE = "job.overdue"
    SETTLE_STALE = "settle.stale"
    STORE_LOST = "store.lost"
    STORE_BACK = "store.back"
    LEASE_LOST = "lease.lost"
    NODE_REAPED = "node.reaped"
    JOBS_ADOPTED = "jobs.adopted"
    CRON_FIRED = "cron.fired"
    CRON_MISSED = "cron.missed"
    CRON_OVERLAPPED = "cron.overlapped"
    CRON_REFUSED = "cron.refused"
