"""Django: a backend for its tasks (``django.tasks``), which enqueues on commit, and the handlers that run them.

    TASKS = {"default": {"BACKEND": "rrqd.integrations.django.RrqdBackend", "QUEUES": ["default", "mail"]}}

and in rrq.toml, for a daemon that is started with DJANGO_SETTINGS_MODULE:

    [rrqd.pools.default]
    queues = ["default", "mail"]
    handlers = "rrqd.integrations.django:registry"

Before Django 6.0 the same tasks come from the package django-tasks, which this knows, too.

Rule 1: only what is a task is ever called, whatever name a job has.
Rule 2: inside a transaction nothing is enqueued before its commit, and nothing at all when it is rolled back.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from inspect import iscoroutinefunction
from typing import Any

try:
    from django import tasks as django_tasks
    from django.tasks import signals
    from django.tasks.backends.base import BaseTaskBackend
    from django.tasks.base import TaskContext, TaskError, TaskResult, TaskResultStatus
    from django.tasks.exceptions import TaskResultDoesNotExist
except ImportError:
    try:
        import django_tasks
        from django_tasks import signals
        from django_tasks.backends.base import BaseTaskBackend
        from django_tasks.base import TaskContext, TaskError, TaskResult, TaskResultStatus
        from django_tasks.exceptions import TaskResultDoesNotExist
    except ImportError:
        raise ImportError("neither Django 6 nor django-tasks is installed: pip install 'rrqd[django]'") from None

import django
from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections, transaction
from django.utils import timezone
from django.utils.crypto import get_random_string
from django.utils.module_loading import import_string

from rrqd.exc import ConfigError
from rrqd.job import JobStatus
from rrqd.model.history import history_of
from rrqd.model.job import Job
from rrqd.registry import NO_POLICY, Registered, Registry
from rrqd.rq.connection import Connection, connect
from rrqd.runner import ExecutionError, ExecutionOutcome, ExecutionRequest

#: What stands before the task's path in a job's ``function_name``.
PREFIX = "django:"
#: ``OPTIONS`` of the backend that go with every job, in the client's words.
JOB_OPTIONS = ("max_retries", "job_timeout_seconds", "result_ttl_seconds", "failure_ttl_seconds", "retry_delay_seconds")
OPTIONS = ("dsn", "enqueue_on_commit", "database", *JOB_OPTIONS)

_STATUS = {
    JobStatus.ACTIVE: TaskResultStatus.RUNNING,
    JobStatus.COMPLETED: TaskResultStatus.SUCCESSFUL,
    JobStatus.FAILED: TaskResultStatus.FAILED,
    JobStatus.CANCELLED: TaskResultStatus.FAILED,
}


class RrqdBackend(BaseTaskBackend):
    """``OPTIONS``: ``dsn`` (left out: ``RRQ_REDIS_DSN``, or the embedded server), ``enqueue_on_commit`` (true) and the
    ``database`` whose commit that is (``"default"``), ``max_retries`` (attempts in all; 1) and the others of
    ``JOB_OPTIONS``. Raises ImproperlyConfigured for any other."""

    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        for name in self.options:
            if name not in OPTIONS:
                raise ImproperlyConfigured(
                    f"TASKS[{alias!r}]: OPTIONS has {name!r}, which {type(self).__name__} does not know; "
                    f"there are {', '.join(OPTIONS)}"
                )
        self.max_attempts = max(1, self.options.get("max_retries", 1))
        self._job_options = {"max_retries": 1} | {k: v for k, v in self.options.items() if k in JOB_OPTIONS}

    @property
    def place(self) -> Connection:
        """Where the jobs lie."""
        return connect(self.options.get("dsn"))

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Write the job down, now or with the transaction. Raises InvalidRequest and EnqueueFailed, then."""
        self.validate_task(task)
        result = TaskResult(
            task=task, id=get_random_string(32), status=TaskResultStatus.READY, enqueued_at=None, started_at=None,
            last_attempted_at=None, finished_at=None, args=args, kwargs=kwargs, backend=self.alias, errors=[],
            worker_ids=[],
        )  # fmt: skip
        database = self.options.get("database", DEFAULT_DB_ALIAS)
        send = functools.partial(self._send, result)
        if self.options.get("enqueue_on_commit", True) and connections[database].in_atomic_block:
            transaction.on_commit(send, using=database)
        else:
            send()
        return result

    def _send(self, result: Any) -> None:
        task = result.task
        params = {name: value for name, value in (("args", result.args), ("kwargs", result.kwargs)) if value}
        options = {
            "params": params, "job_id": result.id, "queue_name": task.queue_name, "priority": task.priority,
            "defer_until": task.run_after, **self._job_options,
        }  # fmt: skip
        self.place.client.enqueue(PREFIX + task.module_path, options)
        _put(result, enqueued_at=timezone.now())
        signals.task_enqueued.send(type(self), task_result=result)

    def get_result(self, result_id: str) -> Any:
        """What is known of a job. Raises TaskResultDoesNotExist."""
        job = self.place.client.get_job(result_id)
        if job is None or not job.function.startswith(PREFIX):
            raise TaskResultDoesNotExist(result_id)
        return self.read(job)

    def read(self, job: Job) -> Any:
        """A job as a task's result. Raises TaskResultDoesNotExist when its task is not there any more."""
        task = task_at(job.function.removeprefix(PREFIX))
        if task is None:
            raise TaskResultDoesNotExist(job.id)
        runs = [one for one in history_of(job) if one.what == "claimed"]
        params = job.params if isinstance(job.params, dict) else {}
        result = TaskResult(
            task=task.using(queue_name=job.queue, priority=int(job.priority), backend=self.alias),
            id=job.id,
            status=_STATUS.get(job.status, TaskResultStatus.READY),
            enqueued_at=job.moment("enqueue_time"),
            started_at=timezone.datetime.fromisoformat(runs[0].at) if runs else None,
            last_attempted_at=job.moment("start_time"),
            finished_at=job.moment("completion_time"),
            args=params.get("args", []),
            kwargs=params.get("kwargs", {}),
            backend=self.alias,
            errors=_errors(job),
            worker_ids=[one.worker or "" for one in runs],
        )
        if result.status == TaskResultStatus.SUCCESSFUL:
            _put(result, _return_value=job.result)
        return result


def task_at(path: str) -> Any:
    """The task under this path; None for anything else, and for nothing."""
    try:
        found = import_string(path)
    except ImportError:
        return None
    return found if isinstance(found, django_tasks.base.Task) else None


def _errors(job: Job) -> list[Any]:
    """The last failure, as Django keeps them. The class's module stands in the traceback alone."""
    error = job.error
    if error is None or job.status is JobStatus.COMPLETED:
        return []
    kind, trace = str(error.get("type") or ""), str(error.get("traceback") or "")
    named = re.findall(rf"(?m)^((?:\w+\.)*){re.escape(kind)}(?::|$)", trace)
    if named:
        path = (named[-1] or "builtins.") + kind
    else:
        path = "builtins.TimeoutError" if kind == "timeout" else "builtins.RuntimeError"
    return [TaskError(exception_class_path=path, traceback=trace or str(error.get("message")))]


def _put(result: Any, **fields: Any) -> None:
    """Results are frozen for everybody but their backend."""
    for name, value in fields.items():
        object.__setattr__(result, name, value)


# In a worker.


class Tasks(Registry):
    """Finds tasks by their paths. Others may be registered beside them."""

    def get(self, name: str) -> Registered | None:
        if not name.startswith(PREFIX):
            return super().get(name)
        run = functools.partial(_start, name.removeprefix(PREFIX))
        return Registered(name, run, False, NO_POLICY, (self.middlewares,))


class _Run:
    """One run of a task, and what Django is told of it."""

    def __init__(self, task: Any, request: ExecutionRequest) -> None:
        self.task = task
        self.backend = task.get_backend()
        self.result = self.backend.get_result(request.job_id)
        self._is_last = request.context.attempt >= self.backend.max_attempts
        signals.task_started.send_robust(type(self.backend), task_result=self.result)

    @property
    def call(self) -> Callable[[], Any]:
        context = [TaskContext(task_result=self.result)] if self.task.takes_context else []
        return functools.partial(self.task.func, *context, *self.result.args, **self.result.kwargs)

    def failed(self) -> None:
        if self._is_last:
            self._finished(TaskResultStatus.FAILED)

    def succeeded(self, value: Any) -> Any:
        _put(self.result, _return_value=value)
        self._finished(TaskResultStatus.SUCCESSFUL)
        return value

    def _finished(self, status: Any) -> None:
        _put(self.result, status=status, finished_at=timezone.now())
        signals.task_finished.send_robust(type(self.backend), task_result=self.result)


def _start(path: str, request: ExecutionRequest) -> Any:
    """In the handler's thread. An async task goes on on the loop."""
    task = task_at(path)
    if task is None:
        message = f"{path} is no task of this project, or its module can't be imported"
        return ExecutionOutcome(status="error", error=ExecutionError(message=message, type="handler_not_found"))
    close_old_connections()
    run = _Run(task, request)
    if iscoroutinefunction(task.func):
        return _finish(run)
    try:
        value = run.call()
    except Exception:
        run.failed()
        raise
    finally:
        close_old_connections()
    return run.succeeded(value)


async def _finish(run: _Run) -> Any:
    try:
        value = await run.call()
    except Exception:
        await sync_to_async(run.failed)()
        raise
    finally:
        await sync_to_async(close_old_connections)()
    return await sync_to_async(run.succeeded)(value)


def __getattr__(name: str) -> Any:
    """``registry``: made when a pool asks for it, with the project set up; the backend must not do that. Raises
    ConfigError."""
    if name != "registry":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        django.setup()
    except Exception as fault:
        raise ConfigError(
            f"{__name__}:registry: the project can't be set up ({type(fault).__name__}: {fault}); set "
            "DJANGO_SETTINGS_MODULE, and see that its module can be imported"
        ) from fault
    made = globals()["registry"] = Tasks()
    return made
