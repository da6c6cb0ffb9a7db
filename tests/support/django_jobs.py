"""A Django project in one module, and its tasks."""

from __future__ import annotations

from typing import Any

import django
from django.conf import settings

settings.configure(
    USE_TZ=True,
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
    TASKS={
        "default": {"BACKEND": "rrqd.integrations.django.RrqdBackend", "QUEUES": ["default", "mail"]},
        "stubborn": {
            "BACKEND": "rrqd.integrations.django.RrqdBackend",
            "OPTIONS": {"max_retries": 2, "retry_delay_seconds": 0, "enqueue_on_commit": False},
        },
    },
)
django.setup()

from rrqd.integrations.django import django_tasks, signals  # noqa: E402 -- they need the settings

task = django_tasks.task
heard: list[tuple[str, str]] = []


def _hear(name: str, signal: Any) -> Any:
    def receive(sender: Any, task_result: Any, **rest: Any) -> None:
        heard.append((name, str(task_result.status)))

    signal.connect(receive, weak=False)
    return receive


for name in ("task_enqueued", "task_started", "task_finished"):
    _hear(name, getattr(signals, name))


class Refused(Exception):
    pass


@task(queue_name="mail", priority=7)
def send(address: str, *, subject: str = "hello") -> str:
    return f"{subject} to {address}"


@task
async def add(left: int, right: int) -> int:
    return left + right


@task(takes_context=True, backend="stubborn")
def second_time(context: Any) -> int:
    if context.attempt < 2:
        raise Refused("not yet")
    return int(context.attempt)


@task
def refuse() -> None:
    raise Refused("never")


def no_task() -> None:
    raise AssertionError("called all the same")
