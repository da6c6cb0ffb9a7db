"""The short way of an enqueue: one blocking connection, and the long way whenever that is in trouble."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from rrqd.dsn import Endpoint
from rrqd.exc import EnqueueFailed, JobExists
from rrqd.rq import Job, Queue
from rrqd.rq.connection import Connection
from rrqd.store import StorePolicy
from rrqd.store.short import LostReply, ShortWay
from tests.support.moves import job
from tests.support.server import Server
from tests.support.wait import until


@pytest.fixture
def place(dsn: str) -> Iterator[Connection]:
    connection = Connection(dsn)
    yield connection
    connection.close()


@pytest.fixture
def short(dsn: str) -> Iterator[ShortWay]:
    short = ShortWay(Endpoint.parse(dsn), StorePolicy())
    yield short
    short.close()


def name() -> str:
    return f"short-{uuid.uuid4()}"


def test_a_job_is_written_and_its_id_is_taken(short: ShortWay) -> None:
    one = name()
    (report,) = short.enqueue([job(one)]) or []
    assert (report.job_id, report.happened) == (one, "created")
    with pytest.raises(JobExists):
        short.enqueue([job(one)])
    assert len(short.enqueue([job(name()), job(name())]) or []) == 2  # an error leaves the connection as it was


def test_a_server_that_does_not_know_the_script_is_told(server: Server) -> None:
    own = ShortWay(Endpoint.parse(server.dsn), StorePolicy())
    assert own.enqueue([job("a")])
    server.ask("SCRIPT", "FLUSH")
    assert own.enqueue([job("b")])
    own.close()


def test_a_lost_reply_is_asked_for_again_and_nothing_is_written_twice(
    place: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, lost = ShortWay._ask, []

    def lose_one(self: ShortWay, *words: Any) -> Any:
        answer = original(self, *words)
        if words[0] == "EVALSHA" and not lost:
            lost.append(answer)
            raise ConnectionResetError
        return answer

    monkeypatch.setattr(ShortWay, "_ask", lose_one)
    queue = Queue(name(), place)
    first = queue.enqueue("tests.support.calls.add", 1, 2)
    assert lost
    assert queue.job_ids == [first.id]
    assert queue.enqueue("tests.support.calls.add", 3, 4).id in queue.job_ids


def test_a_lost_reply_is_said(short: ShortWay) -> None:
    assert short.enqueue([job(name())])
    assert short._socket is not None
    short._socket.shutdown(2)
    with pytest.raises(LostReply):
        short.enqueue([job(name())])
    assert short.enqueue([job(name())])


def test_who_is_interrupted_leaves_no_reply_to_the_next(place: Connection) -> None:
    queue = Queue(name(), place)
    queue.enqueue("tests.support.calls.add", 1, 2)
    assert place._short is not None
    place._short._reader = _Interrupting()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        queue.enqueue("tests.support.calls.add", 3, 4)
    again = f"again-{uuid.uuid4()}"
    queue.enqueue("tests.support.calls.add", 5, 6, job_id=again)
    assert queue.count == 3
    with pytest.raises(JobExists, match=again):  # its own reply, not that of the one before
        queue.enqueue("tests.support.calls.add", 7, 8, job_id=again)


class _Interrupting:
    """A reader that is interrupted before it has a reply."""

    def gets(self) -> Any:
        raise KeyboardInterrupt


def test_a_server_that_went_away_and_came_back_is_found_again(server: Server) -> None:
    place = Connection(server.dsn)
    queue = Queue("q", place)
    queue.enqueue("tests.support.calls.add", 1, 2, job_id="before")
    server.stop()
    server.start()
    queue.enqueue("tests.support.calls.add", 1, 2, job_id="after")
    assert queue.job_ids == ["before", "after"]
    place.close()


def test_a_full_server_refuses_in_the_clients_words(server: Server) -> None:
    place = Connection(server.dsn)
    queue = Queue("q", place)
    queue.enqueue("tests.support.calls.add", 1, 2)
    server.ask("CONFIG", "SET", "maxmemory", "1")
    with pytest.raises(EnqueueFailed, match="OOM"):
        queue.enqueue("tests.support.calls.add", 1, 2)
    place.close()


def test_a_password_and_a_database_are_heeded(server: Server) -> None:
    server.ask("CONFIG", "SET", "requirepass", "secret")
    place = Connection(f"redis://:secret@127.0.0.1:{server.port}/3")
    job_id = Queue("q", place).enqueue("tests.support.calls.add", 1, 2).id
    assert Job.exists(job_id, place)
    stranger = Connection(f"redis://:wrong@127.0.0.1:{server.port}/3")
    with pytest.raises(EnqueueFailed):
        Queue("q", stranger).enqueue("tests.support.calls.add", 1, 2)
    stranger.close()
    place.close()


def test_a_forked_child_has_its_own_connection(place: Connection) -> None:
    queue = Queue(name(), place)
    queue.enqueue("tests.support.calls.add", 1, 2)
    child = os.fork()
    if child == 0:
        try:
            for _ in range(20):
                queue.enqueue("tests.support.calls.add", 3, 4)
        finally:
            os._exit(0)
    for _ in range(20):
        queue.enqueue("tests.support.calls.add", 5, 6)
    os.waitpid(child, 0)
    until(lambda: queue.count == 41, 5, "the jobs of both")


@pytest.mark.parametrize(
    ("dsn", "fit"),
    [
        ("redis://h", True),
        ("unix:///tmp/x.sock", True),
        ("rediss://h", False),
        ("redis+sentinel://h/mymaster", False),
    ],
)
def test_only_one_plain_server_is_asked_this_way(dsn: str, fit: bool) -> None:
    assert ShortWay(Endpoint.parse(dsn), StorePolicy()).suits([job("a")]) is fit
    assert not ShortWay(Endpoint.parse("redis://h"), StorePolicy(enqueue_replicas=1)).suits([job("a")])
