"""Names and defaults that programs import: the keys of RRQ's first API, and its numbers."""

from __future__ import annotations

JOB_KEY_PREFIX = "rrq:job:"
QUEUE_KEY_PREFIX = "rrq:queue:"
DLQ_KEY_PREFIX = "rrq:dlq:"
ACTIVE_JOBS_PREFIX = "rrq:active:"
LOCK_KEY_PREFIX = "rrq:lock:job:"
UNIQUE_JOB_LOCK_PREFIX = "rrq:lock:unique:"
HEALTH_KEY_PREFIX = "rrq:health:worker:"
RETRY_COUNTER_PREFIX = "rrq:retry_count:"
ACTIVE_QUEUES_SET = "rrq:active:queues"
ACTIVE_WORKERS_SET = "rrq:active:workers"
MONITOR_EVENTS_STREAM = "rrq:monitor:events"

DEFAULT_QUEUE_NAME = QUEUE_KEY_PREFIX + "default"
DEFAULT_DLQ_NAME = DLQ_KEY_PREFIX + "default"
DEFAULT_WORKER_ID_PREFIX = "rrq_worker_"

DEFAULT_MAX_RETRIES = 5
DEFAULT_JOB_TIMEOUT_SECONDS = 300
DEFAULT_LOCK_TIMEOUT_EXTENSION_SECONDS = 60
DEFAULT_RESULT_TTL_SECONDS = 86_400
DEFAULT_DLQ_RESULT_TTL_SECONDS = 604_800
DEFAULT_UNIQUE_JOB_LOCK_TTL_SECONDS = 21_600
DEFAULT_POLL_DELAY_SECONDS = 0.1
CONNECTION_POOL_MAX_CONNECTIONS = 20
