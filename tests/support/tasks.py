"""Typed tasks for tests."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Iterator
from datetime import date
from typing import Any

from pydantic import BaseModel

from rrqd import App, Depends, ExecutionRequest

happened: list[str] = []


@dataclasses.dataclass
class Receipt:
    user_id: int
    day: date


class Order(BaseModel):
    number: int
    tags: set[str] = set()


@contextlib.asynccontextmanager
async def lifespan(app: App) -> AsyncIterator[dict[str, str]]:
    happened.append("begin")
    yield {"greeting": "hello"}
    happened.append("end")


app = App(lifespan=lifespan)


@app.middleware
@contextlib.contextmanager
def around(request: ExecutionRequest) -> Iterator[None]:
    happened.append(f"before {request.function_name}")
    yield
    happened.append("after")


async def get_name(request: ExecutionRequest) -> str:
    return f"db of {request.function_name}"


async def get_db(name: str = Depends(get_name)) -> AsyncIterator[str]:
    happened.append("open")
    yield name
    happened.append("close")


def get_file() -> Iterator[str]:
    happened.append("open file")
    yield "file"
    happened.append("close file")


@app.task(queue="mail", max_retries=1, tags=["mail"])
async def send(user_id: int, day: date, *, db: str = Depends(get_db)) -> Receipt:
    happened.append(db)
    return Receipt(user_id, day)


@app.task("count", timeout_seconds=5)
def count(orders: list[Order], file: str = Depends(get_file), again: str = Depends(get_file)) -> int:
    happened.append(file + again)
    return sum(order.number for order in orders)


@app.task()
def fail(text: str) -> None:
    raise ValueError(text)


@app.task()
def anything(value: Any, other=None):  # type: ignore[no-untyped-def]
    return value
