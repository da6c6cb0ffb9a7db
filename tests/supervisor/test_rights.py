"""The daemon, a client and the commands as the user of docs/connections.md; and what a wrong password sounds like."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from rrqd.client import SyncRRQClient
from rrqd.exc import ClientError
from tests.docs.test_acl import rights
from tests.support.commands import rrqd
from tests.support.daemon import Daemon
from tests.support.server import Server
from tests.support.wait import until

JOBS = """
from rrqd.registry import Registry

registry = Registry()

@registry.handler("work")
async def work(request):
    return request.params.get("n")

@registry.handler("fail")
async def fail(request):
    raise ValueError("as told")
"""
LOST = "store.lost"


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    """A server that lets nobody in but ``rrqd``, with the rights of the page, and ``admin``."""
    server = Server()
    try:
        server.ask("ACL", "SETUSER", "admin", "on", ">root", "~*", "&*", "+@all")
        assert server.ask("ACL", "SETUSER", "rrqd", "on", ">secret", *rights()) == b"+OK\r\n"
        assert server.ask("ACL", "SETUSER", "default", "off") == b"+OK\r\n"
        yield server
    finally:
        server.remove()


def dsn(server: Server, password: str = "secret") -> str:
    return f"redis://rrqd:{password}@127.0.0.1:{server.port}/0"


def admin(server: Server, *words: str) -> bytes:
    return server.ask("AUTH", "admin", "root", "\r\n" + " ".join(words))


def beside(server: Server, password: str = "secret") -> Daemon:
    return Daemon(
        {"default": {"processes": 1}}, stand_ins=False, jobs=JOBS, embedded="never",
        rrq={"redis_dsn": dsn(server, password), "base_retry_delay_seconds": 0.0},
    )  # fmt: skip


def test_the_rights_of_the_page_are_enough_for_daemon_client_and_commands(guarded: Server) -> None:
    with beside(guarded) as daemon, SyncRRQClient(config={"redis_dsn": dsn(guarded)}) as client:
        daemon.expect_log("rrqd.ready", 40)
        worked = client.enqueue("work", {"params": {"n": 7}, "unique_key": "k", "tags": ["t"]})
        failed = client.enqueue("fail", {"max_retries": 2})
        for job_id, status in ((worked, "COMPLETED"), (failed, "FAILED")):
            ended = client.wait_for_completion(job_id, timeout_seconds=10)
            assert ended is not None
            assert ended.status == status
        for words in (
            ["status"],
            ["queue", "list"],
            ["job", "list"],
            ["dlq", "list"],
            ["health"],
            ["stats", "default"],
        ):
            assert rrqd(daemon, *words).code in (0, 1), words
        assert daemon.stop() == 0
        refusals = [one for one in daemon.log() if re.search("NOPERM|ermission|refused", str(one))]
        assert refusals == []


def test_a_missing_right_is_named_to_whoever_asked(guarded: Server) -> None:
    admin(guarded, "ACL SETUSER rrqd -zadd")
    try:
        named = r"no permissions to run the .zadd. command; docs/connections\.md has"
        with SyncRRQClient(config={"redis_dsn": dsn(guarded)}) as client, pytest.raises(ClientError, match=named):
            client.enqueue("work")
    finally:
        admin(guarded, "ACL SETUSER rrqd +zadd")


def test_a_wrong_password_is_told_once_by_each_and_the_right_one_is_noticed(guarded: Server) -> None:
    def attempts() -> int:
        found = re.search(rb"acl_access_denied_auth:(\d+)", admin(guarded, "INFO stats"))
        return int(found[1]) if found else 0

    with beside(guarded, "guess") as daemon:
        told = daemon.expect_log(LOST, error=re.compile("Cannot log in at redis://rrqd:\\*\\*\\*@.*WRONGPASS"))
        assert "guess" not in str(told)
        before = attempts()
        until(lambda: attempts() >= before + 6, 20, "six attempts more")
        voices = {one.get("worker", "steward") for one in daemon.log() if one["event"] == LOST}
        assert daemon.count_log(LOST) == len(voices)
        assert daemon.count_log("chore.failed") == daemon.count_log("listening.refused") == 0
        admin(guarded, "ACL SETUSER rrqd >guess")
        daemon.expect_log("rrqd.ready", 40)
        assert daemon.stop() == 0
