"""TLS: an own authority, client certificates, and everything that must be refused with one line that says why."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from rrqd import clock
from rrqd.client import RRQClient, SyncRRQClient
from rrqd.exc import EnqueueFailed, StoreError, StoreRefused, StoreUnavailable
from rrqd.store import Store, StorePolicy
from tests.support.certificates import Authority
from tests.support.commands import rrqd
from tests.support.daemon import Daemon
from tests.support.server import Server
from tests.support.terminator import Terminator

HANDLERS = """
from rrqd.registry import Registry

registry = Registry()

@registry.handler("work")
async def work(request):
    return "done"
"""


class Place(NamedTuple):
    """One server, and in front of it: TLS for localhost, TLS that wants a client certificate, TLS for another host,
    TLS with an old certificate."""

    server: Server
    folder: Path
    plain: int
    mutual: int
    elsewhere: int
    expired: int


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("certificates")
    own, other = Authority(folder, "own"), Authority(folder, "other")
    named = own.sign("server", "localhost", "127.0.0.1")
    own.sign("client")
    own.sign("locked", password=b"open sesame")
    other.sign("stranger")
    server = Server()
    ends = [
        Terminator(server.port, *named),
        Terminator(server.port, *named, clients=own.pem),
        Terminator(server.port, *own.sign("elsewhere", "cache.example.org")),
        Terminator(server.port, *own.sign("old", "localhost", age_days=3)),
    ]
    try:
        yield Place(server, folder, *(end.port for end in ends))
    finally:
        for end in ends:
            end.close()
        server.remove()


async def ping(dsn: str, timeout_seconds: float = 2.0) -> bytes:
    """Over a store as everybody opens it."""
    store = await Store.open(dsn, StorePolicy(), client_name="rrqd:test", timeout_seconds=timeout_seconds)
    try:
        answer: bytes = await (await store.link()).call("PING")
        return answer
    finally:
        await store.close()


async def refused(dsn: str) -> str:
    with pytest.raises(StoreRefused) as caught:
        await ping(dsn)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_an_own_authority_is_trusted_when_it_is_named(place: Place, scheme: str) -> None:
    dsn = f"{scheme}://localhost:{place.plain}/0?ssl_ca_certs={place.folder}/own.pem"
    assert await ping(dsn) == b"PONG"


async def test_an_unknown_authority_is_refused_and_the_option_that_names_it_told(place: Place) -> None:
    assert f"Cannot connect to localhost:{place.plain}: its certificate is from an unknown authority" in (
        said := await refused(f"rediss://localhost:{place.plain}")
    )
    assert said.endswith("name it with ssl_ca_certs=")
    wrong = await refused(f"rediss://localhost:{place.plain}?ssl_ca_certs={place.folder}/other.pem")
    assert wrong.endswith(f"{place.folder}/other.pem did not sign it")


async def test_a_certificate_for_another_host_is_refused(place: Place) -> None:
    said = await refused(f"rediss://localhost:{place.elsewhere}?ssl_ca_certs={place.folder}/own.pem")
    assert "its certificate is for another host (Hostname mismatch" in said


async def test_another_host_may_be_allowed_and_then_the_authority_still_counts(place: Place) -> None:
    where = f"rediss://localhost:{place.elsewhere}?ssl_check_hostname=false"
    assert await ping(f"{where}&ssl_ca_certs={place.folder}/own.pem") == b"PONG"
    assert "unknown authority" in await refused(where)
    assert await ping(f"rediss://localhost:{place.elsewhere}?ssl_cert_reqs=none") == b"PONG"


async def test_an_expired_certificate_is_refused(place: Place) -> None:
    said = await refused(f"rediss://localhost:{place.expired}?ssl_ca_certs={place.folder}/own.pem")
    assert "its certificate has expired" in said


async def test_a_client_certificate_opens_a_server_that_wants_one(place: Place) -> None:
    folder = place.folder
    where = f"rediss://localhost:{place.mutual}?ssl_ca_certs={folder}/own.pem"
    assert await ping(f"{where}&ssl_certfile={folder}/client.crt&ssl_keyfile={folder}/client.key") == b"PONG"
    locked = f"{where}&ssl_certfile={folder}/locked.crt&ssl_keyfile={folder}/locked.key"
    assert await ping(f"{locked}&ssl_password=open%20sesame") == b"PONG"
    assert "ssl_certfile and ssl_keyfile" in await refused(f"{locked}&ssl_password=abracadabra")
    assert "abracadabra" not in await refused(f"{locked}&ssl_password=abracadabra")
    assert "cannot be used" in await refused(locked)  # and nobody is asked for the password on a terminal


async def test_a_server_that_wants_a_client_certificate_says_so(place: Place) -> None:
    """In TLS 1.3 it says so only after the handshake, and hangs up: what arrives first is told."""
    where = f"rediss://localhost:{place.mutual}?ssl_ca_certs={place.folder}/own.pem"
    with pytest.raises(StoreError, match=r"want.* a client certificate: name it with ssl_certfile= and ssl_keyfile="):
        await ping(where)
    stranger = f"{place.folder}/stranger"
    with pytest.raises(StoreError, match=f"(it refuses the client certificate|it may not accept) {stranger}.crt"):
        await ping(f"{where}&ssl_certfile={stranger}.crt&ssl_keyfile={stranger}.key")


async def test_a_file_that_is_not_there_or_is_none_is_named(place: Place) -> None:
    where = f"rediss://localhost:{place.plain}"
    assert "ssl_ca_certs /no/such.pem is not there" in await refused(f"{where}?ssl_ca_certs=/no/such.pem")
    assert "ssl_keyfile /no/key is not there" in await refused(
        f"{where}?ssl_certfile={place.folder}/client.crt&ssl_keyfile=/no/key"
    )
    assert "server.key cannot be used" in await refused(f"{where}?ssl_ca_certs={place.folder}/server.key")


async def test_tls_and_none_that_meet_say_so(place: Place) -> None:
    with pytest.raises(StoreUnavailable, match="no answer in time; does it speak TLS on this port"):
        await ping(f"rediss://localhost:{place.server.port}", timeout_seconds=0.3)
    with pytest.raises(StoreUnavailable):
        await ping(f"redis://localhost:{place.plain}")
    talker = await asyncio.start_server(lambda _, writer: writer.write(b"-ERR max clients\r\n"), "127.0.0.1", 0)
    async with talker:
        said = await refused(f"rediss://localhost:{talker.sockets[0].getsockname()[1]}")
    assert "it does not speak TLS on this port; without TLS the scheme is redis://" in said


async def test_a_client_does_not_go_on_asking_whom_it_does_not_trust(place: Place) -> None:
    began = clock.monotonic()
    async with RRQClient(config={"redis_dsn": f"rediss://localhost:{place.plain}"}) as client:
        with pytest.raises(EnqueueFailed, match="unknown authority"):
            await client.enqueue("f")
    assert clock.monotonic() - began < 5


def test_the_daemon_its_client_and_its_commands_speak_tls_with_a_client_certificate(place: Place) -> None:
    folder = place.folder
    files = f"ssl_ca_certs={folder}/own.pem&ssl_certfile={folder}/client.crt&ssl_keyfile={folder}/client.key"
    dsn = f"rediss://localhost:{place.mutual}/0?{files}"
    with Daemon(
        {"default": {"processes": 1}}, stand_ins=False, jobs=HANDLERS, embedded="never", rrq={"redis_dsn": dsn}
    ) as daemon:
        daemon.expect_log("rrqd.ready", 40)
        with SyncRRQClient(config={"redis_dsn": dsn}) as client:
            ended = client.wait_for_completion(client.enqueue("work"), timeout_seconds=10)
        assert ended is not None
        assert ended.result == "done"
        assert rrqd(daemon, "queue", "list").code == 0
        assert not daemon.count_log("store.lost")
        assert daemon.stop() == 0


async def test_a_lost_connection_comes_back_under_tls(place: Place) -> None:
    dsn = f"rediss://localhost:{place.plain}?ssl_ca_certs={place.folder}/own.pem"
    store = await Store.open(dsn, StorePolicy(), client_name="rrqd:test")
    link = await store.link()
    killer = await Store.open(place.server.dsn, StorePolicy(), client_name="rrqd:killer")
    await (await killer.link()).call("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    with pytest.raises(StoreUnavailable):
        await link.call("BLPOP", "nothing", "5")
    assert await (await store.link()).call("PING") == b"PONG"
    await store.close()
    await killer.close()
