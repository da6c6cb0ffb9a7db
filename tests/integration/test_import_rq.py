"""Jobs in RQ's own format are moved over, each once, under its id; what can't be moved stays where it is."""

from __future__ import annotations

import json
import pickle
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from redis import Redis

from rrqd.cli.main import cli
from rrqd.rq import Job, Worker
from rrqd.rq.connection import Connection
from tests.support.calls import Account
from tests.support.server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def theirs(server: Server) -> Iterator[Redis]:
    with Redis.from_url(server.dsn.replace("/0", "/5")) as client:
        client.flushall()
        yield client


@pytest.fixture
def place(server: Server) -> Iterator[Connection]:
    place = Connection(server.dsn, signing_key="key")
    yield place
    place.close()


def rq_job(
    theirs: Redis, job_id: str, *call: Any, queue: str = "default", due: float | None = None, **fields: Any
) -> None:
    """As RQ writes it: (function, instance, args, kwargs), pickled and compressed."""
    data = zlib.compress(pickle.dumps((call[0], None, tuple(call[1:]), fields.pop("kwargs", {}))))
    theirs.hset(f"rq:job:{job_id}", mapping={"data": data, "origin": queue, "status": "queued", **fields})
    theirs.sadd("rq:queues", f"rq:queue:{queue}")
    if due is None:
        theirs.rpush(f"rq:queue:{queue}", job_id)
    else:
        theirs.zadd(f"rq:scheduled:{queue}", {job_id: due})


def rrqd(tmp_path: Path, *words: str) -> Result:
    config = tmp_path / "rrq.toml"
    config.write_text('[rrqd.pools.default]\nhandlers = "jobs:registry"\n')
    done = CliRunner().invoke(cli, [*words, "--config", str(config)], prog_name="rrqd")
    assert "Traceback" not in done.stderr
    return done


def move(server: Server, tmp_path: Path, *more: str) -> tuple[int, Any, str]:
    source = server.dsn.replace("/0", "/5")
    done = rrqd(tmp_path, "import", "rq", "--from", source, "--dsn", server.dsn, "--json", *more)
    return done.exit_code, json.loads(done.stdout), done.stderr


def test_queued_and_scheduled_jobs_are_moved(server: Server, theirs: Redis, place: Connection, tmp_path: Path) -> None:
    rq_job(theirs, "first", "tests.support.calls.add", 1, 2, timeout=60, result_ttl=-1, description="a sum")
    rq_job(theirs, "second", "tests.support.calls.add", 3, kwargs={"right": 4}, retries_left=2,
           retry_intervals="[1, 2]", success_callback_name="tests.support.calls.note",
           meta=pickle.dumps({"who": "me"}))  # fmt: skip
    rq_job(theirs, "later", "tests.support.calls.add", 5, 6, queue="slow", due=time.time() + 3600)
    assert move(server, tmp_path, "--dry-run")[1] == [
        {"queue": "default", "waiting": 2, "moved": 0, "left": 0},
        {"queue": "slow", "waiting": 1, "moved": 0, "left": 0},
    ]  # fmt: skip

    code, counts, _ = move(server, tmp_path)

    assert (code, [row["moved"] for row in counts]) == (0, [2, 1])
    assert theirs.keys("rq:job:*") == theirs.keys("rrqd:import:*") == []
    Worker(["default", "slow"], connection=place).work(burst=True)
    first, second, later = Job.fetch_many(["first", "second", "later"], place)
    assert first is not None
    assert second is not None
    assert later is not None
    assert (first.result, first.description, first.timeout) == (3, "a sum", 60)
    assert (second.result, second.get_meta()) == (7, {"who": "me", "noted": ["7"]})
    assert later.get_status() == "scheduled"


def test_what_can_not_be_moved_stays_and_is_told(
    server: Server, theirs: Redis, place: Connection, tmp_path: Path
) -> None:
    rq_job(theirs, "object", "tests.support.calls.give", Account(3))
    rq_job(theirs, "good", "tests.support.calls.add", 1, 2)
    theirs.rpush("rq:queue:default", "gone")

    code, counts, said = move(server, tmp_path)

    assert (code, counts) == (1, [{"queue": "default", "waiting": 3, "moved": 1, "left": 2}])
    assert "object in default stays where it is: argument 1 is a tests.support.calls.Account" in said
    assert "gone in default stays where it is: it has no data" in said
    assert theirs.lrange("rq:queue:default", 0, -1) == [b"object", b"gone"]


def test_what_is_no_json_is_moved_as_a_signed_pickle_when_asked_for(
    server: Server, theirs: Redis, place: Connection, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("RRQD_SIGNING_KEY", "key")
    rq_job(theirs, "object", "tests.support.calls.give", Account(3))

    assert move(server, tmp_path, "--pickle", "--queue", "default")[0] == 0
    Worker(["default"], connection=place).work(burst=True)
    assert Job.fetch("object", place).result.balance == 3


def test_an_interrupted_move_is_taken_up_again(
    server: Server, theirs: Redis, place: Connection, tmp_path: Path
) -> None:
    rq_job(theirs, "half", "tests.support.calls.add", 1, 2)
    theirs.lmove("rq:queue:default", "rrqd:import:default")

    assert move(server, tmp_path)[1] == [{"queue": "default", "waiting": 1, "moved": 1, "left": 0}]
    assert Job.exists("half", place)
    rq_job(theirs, "half", "tests.support.calls.add", 1, 2)  # it had been enqueued, and RQ was not told
    assert move(server, tmp_path)[0] == 0
    assert theirs.llen("rq:queue:default") == 0


def test_a_bad_address_is_told_in_a_line(tmp_path: Path) -> None:
    done = rrqd(tmp_path, "import", "rq", "--from", "localhost")
    assert done.exit_code == 2
    assert "must start with redis://" in done.stderr
