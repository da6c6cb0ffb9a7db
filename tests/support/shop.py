"""Job classes in reqless' manner, for tests."""

from __future__ import annotations

import json
import os
from typing import Any

from rrqd import reqless


class Gnome:
    """A pipeline: one method a queue."""

    @staticmethod
    def dig(job: reqless.Job) -> None:
        job.data = json.dumps({**json.loads(job.data), "dug": True})
        job.complete("polish")

    @staticmethod
    def polish(job: reqless.Job) -> None:
        job.data = json.dumps({**json.loads(job.data), "polished": True})
        job.complete()


class Order:
    """``process``, whatever the queue."""

    @staticmethod
    def process(job: reqless.Job) -> None:
        data: Any = json.loads(job.data)
        if data.get("fail") == "group":
            job.fail("no-stock", "we have none")
        elif data.get("fail"):
            raise KeyError(data["fail"])
        elif data.get("sandbox"):
            with open(os.path.join(str(job.sandbox), "file"), "w") as file:
                file.write("x")
            job.log("wrote a file", {"where": job.sandbox})
            job.heartbeat()


class Flaky:
    """Retried on one kind of exception."""

    @staticmethod
    @reqless.retry(ConnectionError)
    def process(job: reqless.Job) -> None:
        raise ConnectionError("no route")


class Nothing:
    """No method at all."""
