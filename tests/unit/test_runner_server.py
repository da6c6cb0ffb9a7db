"""Our runner's end of the protocol: every request is answered, and nobody pays for another."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import socket
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from rrqd.bridge.server import Run, Server
from rrqd.exc import RetryJob, SnoozeJob
from rrqd.handlers import LoadedHandlers
from rrqd.registry import Registry
from rrqd.runner import ExecutionOutcome, ExecutionRequest

registry = Registry()
release = threading.Event()


@registry.handler
async def echo(request: ExecutionRequest) -> Any:
    return request.params


@registry.handler
async def wait(request: ExecutionRequest) -> None:
    await asyncio.sleep(60)


@registry.handler
def plain(request: ExecutionRequest) -> str:
    return threading.current_thread().name


@registry.handler
def stubborn(request: ExecutionRequest) -> bool:
    release.wait(10)
    return request.cancelled


@registry.handler
async def no_json(request: ExecutionRequest) -> Any:
    return {"a": object()}


@registry.handler
async def huge(request: ExecutionRequest) -> str:
    return "x" * 17_000_000


@registry.handler
async def retry(request: ExecutionRequest) -> None:
    raise RetryJob("later", defer_seconds=1.5)


@registry.handler
async def snooze(request: ExecutionRequest) -> None:
    raise SnoozeJob(2.0, "not now")


@registry.handler
async def own_timeout(request: ExecutionRequest) -> None:
    raise TimeoutError("the socket's")


@registry.handler
async def leave(request: ExecutionRequest) -> None:
    raise SystemExit(3)


@registry.handler
async def outcome(request: ExecutionRequest) -> ExecutionOutcome:
    return ExecutionOutcome(status="success", result=[1])


@registry.handler
async def sandboxed(request: ExecutionRequest) -> str:
    (request.sandbox / "file").write_text("x")
    request.progress(0.5)
    request.log.info("here")
    return str(request.sandbox)


class Peer:
    """A worker of the barest kind: says what it is told, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def say(self, kind: str, **payload: Any) -> None:
        body = json.dumps({"type": kind, "payload": payload}).encode()
        self.writer.write(len(body).to_bytes(4, "big") + body)

    def ask(
        self, function: str, request_id: str = "r", *, version: str = "2", deadline: str | None = None, **params: Any
    ) -> None:
        context = {"job_id": "j" + request_id, "attempt": 1, "enqueue_time": "2026-01-01T00:00:00Z", "queue_name": "q"}
        context |= {"deadline": deadline} if deadline else {}
        self.say(
            "request", protocol_version=version, request_id=request_id, job_id="j" + request_id,
            function_name=function, params=params, context=context,
        )  # fmt: skip

    async def answer(self) -> dict[str, Any]:
        async with asyncio.timeout(10):
            size = int.from_bytes(await self.reader.readexactly(4), "big")
            said = json.loads(await self.reader.readexactly(size))
        assert said["type"] == "response"
        return dict(said["payload"])

    async def is_closed(self) -> bool:
        async with asyncio.timeout(5):
            return await self.reader.read() == b""


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    release.clear()
    server = Server(LoadedHandlers(registry))
    yield server
    release.set()
    await server.close()


async def join(server: Server) -> Peer:
    near, far = socket.socketpair()
    await asyncio.get_running_loop().create_connection(server.connection, sock=far)
    return Peer(*await asyncio.open_connection(sock=near))


@pytest.fixture
async def peer(server: Server) -> AsyncIterator[Peer]:
    peer = await join(server)
    yield peer
    peer.writer.close()


@pytest.mark.parametrize(
    ("function", "status", "kind", "message"),
    [
        ("nobody", "error", "handler_not_found", "nobody"),
        ("no_json", "error", "TypeError", "object is not JSON"),
        ("huge", "error", "ResultTooLarge", "16777216"),
        ("retry", "retry", "RetryJob", "later"),
        ("own_timeout", "error", "TimeoutError", "the socket's"),
        ("leave", "error", "SystemExit", "3"),
    ],
)
async def test_whatever_a_handler_does_is_answered(
    peer: Peer, function: str, status: str, kind: str, message: str
) -> None:
    peer.ask(function)
    said = await peer.answer()
    assert (said["request_id"], said["job_id"], said["status"], said["error"]["type"]) == ("r", "jr", status, kind)
    assert message in said["error"]["message"]


async def test_a_plain_handler_runs_in_a_thread(peer: Peer) -> None:
    peer.ask("plain")
    assert (await peer.answer())["result"].startswith("rrqd-handler")


async def test_an_outcome_says_more_than_a_value(peer: Peer) -> None:
    peer.ask("outcome")
    assert (await peer.answer())["result"] == [1]


async def test_a_handler_has_its_helpers(peer: Peer) -> None:
    peer.ask("sandboxed")
    said = await peer.answer()
    assert said["status"] == "success", said
    assert not os.path.lexists(said["result"])  # noqa: ASYNC240 -- a test has the loop to itself


async def test_a_failure_brings_its_traceback(peer: Peer) -> None:
    peer.ask("own_timeout")
    assert "in own_timeout" in (await peer.answer())["error"]["details"]["traceback"]


async def test_nothing_is_left_of_a_request_once_it_is_answered(peer: Peer) -> None:
    gc.disable()
    try:
        for n in range(20):
            peer.ask("echo", str(n))
        for _ in range(20):
            await peer.answer()
        assert not [one for one in gc.get_objects() if type(one) is Run]
    finally:
        gc.enable()


async def test_another_version_is_refused_and_the_connection_goes_on(peer: Peer) -> None:
    peer.ask("echo", "a", version="1")
    assert (await peer.answer())["status"] == "error"
    peer.ask("echo", "b", n=1)
    assert (await peer.answer())["result"] == {"n": 1}


async def test_the_sixty_fifth_request_is_refused_and_no_other(peer: Peer) -> None:
    for n in range(65):
        peer.ask("wait", str(n))
    said = await peer.answer()
    assert (said["request_id"], said["status"]) == ("64", "error")
    assert "busy" in said["error"]["message"]


@pytest.mark.parametrize("which", [{"job_id": "jr"}, {"job_id": "jr", "request_id": "r"}])
async def test_a_cancel_reaches_a_request_of_another_connection(
    server: Server, peer: Peer, which: dict[str, str]
) -> None:
    peer.ask("wait")
    peer.ask("echo", "known")
    await peer.answer()
    other = await join(server)
    other.say("cancel", **which)
    said = await peer.answer()
    assert (said["request_id"], said["error"]["type"]) == ("r", "cancelled")
    other.writer.close()


async def test_a_plain_handler_that_was_cancelled_is_answered_when_it_returns(peer: Peer) -> None:
    peer.ask("stubborn")
    peer.say("cancel", job_id="jr")
    peer.ask("echo", "later")
    assert (await peer.answer())["request_id"] == "later"
    release.set()
    said = await peer.answer()
    assert (said["request_id"], said["error"]["type"]) == ("r", "cancelled")


@pytest.mark.parametrize("seconds", [-1.0, 0.1])
async def test_a_deadline_ends_a_run(peer: Peer, seconds: float) -> None:
    peer.ask("wait", deadline=(datetime.now(UTC) + timedelta(seconds=seconds)).isoformat())
    said = await peer.answer()
    assert (said["status"], said["error"]["type"]) == ("timeout", "timeout")


@pytest.mark.parametrize(
    "bytes_",
    [b"\0\0\0\0", b"\0\0\0\2{]", b'\0\0\0\x24{"type":"response","payload":{"a":1}}', b"GET / HTTP/1.1\r\n\r\n"],
)
async def test_who_breaks_the_protocol_is_cut_off_and_nobody_else(server: Server, peer: Peer, bytes_: bytes) -> None:
    other = await join(server)
    other.ask("wait", "lost")
    other.writer.write(bytes_)
    assert await other.is_closed()
    peer.ask("echo", n=2)
    assert (await peer.answer())["result"] == {"n": 2}
    other.writer.close()
