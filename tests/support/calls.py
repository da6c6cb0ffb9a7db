"""Functions that tests enqueue by reference, and classes whose instances they pass."""

from __future__ import annotations

import asyncio
import dataclasses
import enum
import sys
import threading
from datetime import date
from decimal import Decimal
from typing import Any, NamedTuple

from pydantic import BaseModel

from rrqd.rq import get_current_job

_never = threading.Event()


@dataclasses.dataclass(frozen=True)
class Money:
    amount: Decimal
    currency: str = "EUR"


class Colour(enum.Enum):
    RED = "red"


class Pair(NamedTuple):
    left: int
    right: Any


class Order(BaseModel):
    day: date
    tags: set[str] = set()
    price: Money | None = None


class Account:
    def __init__(self, balance: int) -> None:
        self.balance = balance


def add(left: int, right: int) -> int:
    return left + right


def echo(*args: Any, **kwargs: Any) -> Any:
    return [list(args), kwargs]


def give(value: Any) -> Any:
    return value


async def add_async(left: int, right: int) -> int:
    return left + right


def boom(text: str = "no luck") -> None:
    raise ValueError(text)


def spin() -> None:
    """Runs until it is stopped from outside."""
    while True:
        _never.wait(0.01)


async def spin_async() -> None:
    await asyncio.Event().wait()


def spin_after(*what: Any) -> None:
    """A callback that does not end by itself."""
    spin()


def own_attempts() -> int:
    """How often its job has failed before, read by the job itself."""
    job = get_current_job()
    assert job is not None
    return job.retries_made


def fail_until(attempt: int) -> int:
    """Fails until its job has failed ``attempt`` times."""
    made = own_attempts()
    if made < attempt:
        raise RuntimeError(f"attempt {made + 1}")
    return made


def note(job: Any, _connection: Any, *what: Any) -> None:
    """A callback: writes to its job's meta what it was told."""
    job.meta["noted"] = [str(getattr(one, "__name__", one)) for one in what[:2]]
    job.save_meta()


def write_meta(text: str) -> str:
    job = get_current_job()
    assert job is not None
    job.meta["step"] = text
    job.save_meta()
    return job.id


def leave(code: int) -> None:
    sys.exit(code)


async def leave_later(code: int) -> None:
    await asyncio.sleep(0)
    sys.exit(code)


def nothing_to_store() -> object:
    return object()
