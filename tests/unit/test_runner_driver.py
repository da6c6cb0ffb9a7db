"""Our end of a runner: calls and answers meet, whatever the runner does."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest
import structlog

from rrqd.bridge.driver import Driver, RunnerLost
from rrqd.bridge.line import Line
from rrqd.bridge.server import Server
from rrqd.exc import SnoozeJob
from rrqd.handlers import LoadedHandlers
from rrqd.job import JobResult, JobStatus
from rrqd.registry import Registry
from rrqd.runner import ExecutionContext, ExecutionRequest, NextStep
from tests.support.wait import until_async

registry = Registry()
release = threading.Event()


@registry.handler
async def echo(request: ExecutionRequest) -> Any:
    return request.params


@registry.handler
def stubborn(request: ExecutionRequest) -> bool:
    release.wait(10)
    return request.cancelled


@registry.handler
async def snooze(request: ExecutionRequest) -> None:
    raise SnoozeJob(2.0, "not now")


@registry.handler
async def onward(request: ExecutionRequest) -> Any:
    parents = {one: end and end.result for one, end in request.parents.items()}
    return request.complete_into("next", params=parents, delay_seconds=1.5, depends_on=["a"], result=request.args)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    release.clear()
    server = Server(LoadedHandlers(registry))
    yield server
    release.set()
    await server.close()


async def first(told: list[Any]) -> Any:
    async def anything() -> list[Any]:
        return told

    return (await until_async(anything, 5, "being told"))[0]


class Told:
    def __init__(self) -> None:
        self.lost: list[str] = []
        self.silent: list[bool] = []


async def driven(
    far_end: Any, told: Told, *, grace_seconds: float = 0.4, response_timeout_seconds: float | None = None
) -> Driver:
    near, far = socket.socketpair()
    loop = asyncio.get_running_loop()
    await loop.create_connection(far_end, sock=far)
    driver = Driver(
        grace_seconds=grace_seconds, response_timeout_seconds=response_timeout_seconds,
        on_lost=told.lost.append, on_silent=told.silent.append, log=structlog.get_logger(),
    )  # fmt: skip
    await loop.create_connection(lambda: driver.line, sock=near)
    return driver


def request(function: str, job_id: str = "job", **params: Any) -> ExecutionRequest:
    context = ExecutionContext(job_id=job_id, attempt=1, enqueue_time=datetime.now(UTC), queue_name="rrq:queue:q")
    return ExecutionRequest(
        request_id=f"{job_id}:1", job_id=job_id, function_name=function, params=params, context=context
    )


class Scripted(asyncio.Protocol):
    """A runner that does what a test says: ``react(protocol, message)`` for each request or cancel."""

    def __init__(self, react: Any) -> None:
        self.react = react
        self.data = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.data += data
        while len(self.data) >= 4 and len(self.data) >= 4 + int.from_bytes(self.data[:4], "big"):
            size = int.from_bytes(self.data[:4], "big")
            message, self.data = json.loads(self.data[4 : 4 + size]), self.data[4 + size :]
            self.react(self, message["type"], message["payload"])

    def say(self, **payload: Any) -> None:
        body = json.dumps({"type": "response", "payload": payload}).encode()
        self.transport.write(len(body).to_bytes(4, "big") + body)


async def test_calls_and_answers_meet(server: Server) -> None:
    told = Told()
    driver = await driven(server.connection, told)
    said = await asyncio.gather(*(driver.call(request("echo", f"j{n}", n=n)) for n in range(40)))
    assert [bytes(one.result) for one in said] == [b'{"n":%d}' % n for n in range(40)]
    with pytest.raises(SnoozeJob) as snoozed:
        await driver.call(request("snooze"))
    assert (snoozed.value.seconds, str(snoozed.value)) == (2.0, "not now")
    assert told.lost == []
    driver.abandon()
    with pytest.raises(RunnerLost):
        await driver.call(request("echo"))


class Writes:
    """The transport of a line, and how often something is written to it."""

    def __init__(self, line: Line) -> None:
        self.transport = line._transport
        self.count = 0
        line._transport = self

    def write(self, data: bytes) -> None:
        self.count += 1
        self.transport.write(data)

    def close(self) -> None:
        self.transport.close()


async def test_what_is_asked_or_answered_together_is_written_at_once(server: Server) -> None:
    far = server.connection()
    driver = await driven(lambda: far, Told())
    asked, answered = Writes(driver.line), Writes(far)
    await asyncio.gather(*(driver.call(request("echo", f"j{n}")) for n in range(64)))
    assert (asked.count, answered.count) == (1, 1)
    driver.abandon()


async def test_args_and_parents_come_over_and_a_next_step_comes_back(server: Server) -> None:
    driver = await driven(server.connection, Told())
    asked = request("onward")
    asked.context.token, asked.args = 7, [1, "two"]
    asked.parents = {"p": JobResult(status=JobStatus.COMPLETED, result={"n": 1}), "gone": None}
    said = await driver.call(asked)
    assert (said.status, bytes(said.result)) == ("success", b'[1,"two"]')
    assert said.next == NextStep(
        queue="next", params={"p": {"n": 1}, "gone": None}, delay_seconds=1.5, depends_on=["a"]
    )
    elsewhere = await driver.call(request("onward"))  # without a token: an orchestrator of RRQ's
    assert elsewhere.error is not None
    assert (elsewhere.status, elsewhere.error.type) == ("error", "InvalidNextStep")


async def test_a_next_step_that_is_none_fails_its_own_job_only() -> None:
    def react(far: Scripted, kind: str, payload: dict[str, Any]) -> None:
        far.say(request_id=payload["request_id"], status="success", next={"queue": 7} if kind == "request" else None)

    told = Told()
    driver = await driven(lambda: Scripted(react), told)
    said = await driver.call(request("any"))
    assert said.error is not None
    assert (said.error.type, told.lost) == ("InvalidNextStep", [])


async def test_a_cancelled_call_ends_when_the_runner_has_let_go(server: Server) -> None:
    driver = await driven(server.connection, Told(), grace_seconds=5.0)
    task = asyncio.create_task(driver.call(request("stubborn")))
    await driver.call(request("echo", "first"))
    task.cancel()
    await driver.call(request("echo", "second"))
    assert not task.done()
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    driver.abandon()


async def test_an_answer_to_nobody_is_passed_over_and_a_wrong_job_is_told() -> None:
    def react(runner: Scripted, kind: str, asked: dict[str, Any]) -> None:
        runner.say(request_id="unknown", status="success")
        runner.say(request_id=asked["request_id"], job_id="another", status="success")
        runner.say(request_id=asked["request_id"], status="success", result="late")

    told = Told()
    driver = await driven(lambda: Scripted(react), told)
    said = await driver.call(request("f"))
    assert (said.status, "another" in (said.error.message if said.error else "")) == ("error", True)
    assert told.lost == []
    driver.abandon()


async def test_an_answer_without_an_id_is_the_only_requests() -> None:
    driver = await driven(
        lambda: Scripted(lambda runner, _kind, _asked: runner.say(status="success", result=1)), Told()
    )
    assert bytes((await driver.call(request("f"))).result) == b"1"
    driver.abandon()


async def test_a_runner_that_answers_nothing_gets_no_more_work_and_is_given_up_in_time() -> None:
    told = Told()
    driver = await driven(lambda: Scripted(lambda *_: None), told)
    tasks = [asyncio.create_task(driver.call(request("f", f"j{n}"))) for n in range(2)]
    assert await first(told.silent) is True
    tasks[0].cancel()
    assert "job j0 should have ended" in await first(told.lost)
    driver.abandon()
    assert [type(one) for one in await asyncio.gather(*tasks, return_exceptions=True)] == [asyncio.CancelledError] * 2


async def test_a_runner_that_loses_one_request_but_hears_is_not_given_up_by_the_driver() -> None:
    def react(runner: Scripted, kind: str, asked: dict[str, Any]) -> None:
        if kind == "request" and asked["protocol_version"] != "2":
            runner.say(request_id=asked["request_id"], status="error", error={"message": "version"})

    told = Told()
    driver = await driven(lambda: Scripted(react), told, grace_seconds=0.2)
    tasks = [asyncio.create_task(driver.call(request("f", f"j{n}"))) for n in range(2)]
    await asyncio.sleep(0)
    tasks[0].cancel()
    await asyncio.wait(tasks, timeout=0.5)
    assert (told.lost, told.silent) == ([], [])
    driver.abandon()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_no_answer_within_the_response_timeout_is_a_failure_of_that_job() -> None:
    def react(runner: Scripted, kind: str, asked: dict[str, Any]) -> None:
        if kind == "cancel":
            runner.say(request_id=asked["request_id"], status="success", result="too late")

    told = Told()
    driver = await driven(lambda: Scripted(react), told, response_timeout_seconds=0.1)
    said = await driver.call(request("f"))
    assert (said.status, said.error.type if said.error else "") == ("error", "RunnerTimeout")
    assert told.lost == []
    driver.abandon()


async def test_a_runner_that_hangs_up_is_lost_and_its_calls_stay_open() -> None:
    told = Told()
    driver = await driven(lambda: Scripted(lambda runner, *_: runner.transport.close()), told)
    task = asyncio.create_task(driver.call(request("f")))
    assert await first(told.lost) == "it closed the connection"
    assert not task.done()
    driver.abandon()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_request_above_the_limit_is_not_sent() -> None:
    driver = await driven(lambda: Scripted(lambda *_: None), Told())
    said = await driver.call(request("f", text="x" * 17_000_000))
    assert (said.status, said.error.type if said.error else "") == ("error", "RequestTooLarge")
    driver.abandon()
