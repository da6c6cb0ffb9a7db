"""Typed tasks: functions whose enqueue has the types of the function, and whose results have theirs.

    app = App()

    @app.task(queue="mail", max_retries=5)
    async def send(user_id: int, subject: str = "hello") -> Receipt: ...

    handle = await send.enqueue(7, subject="welcome")     # wrong arguments: an error of the type checker, and here
    receipt = await handle.result(timeout_seconds=10)     # a Receipt

A pool runs them with ``handlers = "myapp.tasks:app"``. It is sugar over client and registry: jobs have plain JSON
parameters by name, and any other API can enqueue and see them. ``docs/tasks.md`` tells the rest.
"""

from __future__ import annotations

from rrqd.app.app import App
from rrqd.app.depends import Depends
from rrqd.app.task import Call, Handle, Task, TaskFailed

__all__ = ["App", "Call", "Depends", "Handle", "Task", "TaskFailed"]
