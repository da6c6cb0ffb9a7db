"""One connection: answers in order, nothing sent twice, and a loss that every call hears of in time."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator
from typing import Any

import hiredis
import pytest

from rrqd import clock
from rrqd.exc import StoreRefused, StoreUnavailable, StoreUnsupported
from rrqd.store import Store, StorePolicy
from rrqd.store.connection import Endpoint, Link, ServerSaid
from rrqd.store.scripts import script
from tests.support.moves import job, raw
from tests.support.server import Server, free_port
from tests.support.wait import BUSY_SECONDS, until_async


@pytest.fixture
async def link(store: Store, dsn: str) -> AsyncIterator[Link]:
    """A connection to the empty server."""
    link = await Link.open(Endpoint.parse(dsn), name="rrqd:test:link")
    yield link
    link.close()


class Scripted:
    """A server that answers as it is told and remembers what it was sent: for what no real one does on demand."""

    def __init__(self) -> None:
        self.heard: list[list[bytes]] = []
        self.connections = 0
        self._answers: dict[bytes, bytes | None] = {b"HELLO": b"%0\r\n", b"PING": b"+PONG\r\n"}
        self._ends: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Scripted:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        self._server.close()
        for end in self._ends:
            end.close()

    @property
    def dsn(self) -> str:
        return f"redis://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def answer(self, word: bytes, reply: bytes | None) -> None:
        """``None``: hang up instead of answering."""
        self._answers[word] = reply

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._ends.append(writer)
        parser = hiredis.Reader()
        while data := await reader.read(65536):
            parser.feed(data)
            while (words := parser.gets()) is not False:
                self.heard.append(words)
                reply = self._answers.get(words[0], b"")
                if reply is None:
                    writer.close()
                    return
                writer.write(reply)

    def times(self, word: bytes) -> int:
        return sum(words[0] == word for words in self.heard)


async def ended(calls: list[asyncio.Future[Any]]) -> list[Any]:
    return await asyncio.gather(*calls, return_exceptions=True)


# Asking.


async def test_answers_come_in_the_order_of_the_questions(link: Link) -> None:
    calls = [link.call("ECHO", str(n)) for n in range(1000)]

    assert await ended(calls) == [str(n).encode() for n in range(1000)]


async def test_what_is_asked_in_one_turn_of_the_loop_is_sent_in_one_write(link: Link, store: Store) -> None:
    async def reads() -> int:
        return int((await store.info())["total_reads_processed"])

    before = await reads()
    await ended([link.call("PING") for _ in range(200)])

    assert await reads() - before <= 5


async def test_an_error_reply_belongs_to_its_own_question(link: Link) -> None:
    before, wrong, after = await ended([link.call("PING"), link.call("NOSUCH"), link.call("PING")])

    assert (before, after) == (b"PONG", b"PONG")
    assert isinstance(wrong, ServerSaid)
    assert link.lost is None


async def test_who_asks_several_things_at_once_is_told_of_the_first_refusal_and_nobody_of_the_others(
    link: Link, caplog: pytest.LogCaptureFixture
) -> None:
    """A server that is still reading its data refuses all of them."""
    asked = [link.call("NO-SUCH-COMMAND") for _ in range(3)]
    with pytest.raises(ServerSaid):
        _ = [await one for one in asked]
    del asked
    gc.collect()
    assert caplog.records == []


async def test_whoever_gives_up_leaves_the_answers_of_the_others_in_place(link: Link) -> None:
    first, second, third = (link.call("ECHO", word) for word in ("a", "b", "c"))
    second.cancel()

    assert (await first, await third) == (b"a", b"c")


async def test_values_are_bytes_of_any_kind(link: Link) -> None:
    value = bytes(range(256)) * 5000

    await link.call("SET", "k", value)

    assert await link.call("GET", "k") == value


async def test_a_script_that_the_server_has_forgotten_is_sent_whole(store: Store) -> None:
    await store.enqueue_many([job("a")])
    await raw(store, "SCRIPT", "FLUSH")

    await store.enqueue_many([job("b")])

    assert await store.queue_page("default", 0, 10) == ["a", "b"]
    assert await raw(store, "SCRIPT", "EXISTS", script("enqueue").digest) == [1]


# Opening.


async def test_the_database_of_the_dsn_is_chosen(server: Server) -> None:
    for place in (server.dsn.removesuffix("/0") + "/5", f"unix://{server.socket_path}?db=5"):
        link = await Link.open(Endpoint.parse(place), name="x")
        assert b" db=5 " in await link.call("CLIENT", "INFO")
        link.close()


async def test_a_name_is_made_fit_for_the_server(dsn: str) -> None:
    link = await Link.open(Endpoint.parse(dsn), name="rrqd:büro 7\n")

    assert await link.call("CLIENT", "GETNAME") == b"rrqd:b_ro_7_"
    link.close()


async def test_a_password_opens_the_door_and_a_wrong_one_is_refused(server: Server) -> None:
    address = server.dsn.removeprefix("redis://")
    inside = await Link.open(Endpoint.parse(server.dsn), name="x")
    await inside.call("CONFIG", "SET", "requirepass", "p@s/s:#?%")

    link = await Link.open(Endpoint.parse(f"redis://:p%40s%2Fs%3A%23%3F%25@{address}"), name="x")
    assert await link.call("PING") == b"PONG"
    for wrong in (f"redis://:guess@{address}", f"redis://nobody:guess@{address}", f"redis://{address}"):
        with pytest.raises(StoreRefused, match=r"WRONGPASS|NOAUTH") as caught:
            await Link.open(Endpoint.parse(wrong), name="x")
        assert "guess" not in str(caught.value)
    inside.close()
    link.close()


async def test_nobody_there_is_said_with_the_address_and_without_the_password() -> None:
    port = free_port()

    for place in (f"redis://u:secret@127.0.0.1:{port}", "unix://u:secret@/no/such.sock"):
        with pytest.raises(StoreUnavailable, match=r"Cannot reach (redis|unix)://u:\*\*\*@") as caught:
            await Link.open(Endpoint.parse(place), name="x")
        assert "secret" not in str(caught.value)


async def test_what_is_no_redis_is_refused_with_a_clear_word() -> None:
    async with Scripted() as scripted:
        scripted.answer(b"HELLO", b"-ERR unknown command 'HELLO'\r\n")
        with pytest.raises(StoreUnsupported, match=r"did not take HELLO 3.*rrqd needs Redis >= 7\.0"):
            await Link.open(Endpoint.parse(scripted.dsn), name="x")

        scripted.answer(b"HELLO", b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(StoreUnavailable, match="speaks no RESP"):
            await Link.open(Endpoint.parse(scripted.dsn), name="x")


@pytest.mark.parametrize("version", [b"redis_version:6.2.14", b"valkey_version:7.1.0", b"something:else"])
async def test_an_old_server_is_refused_with_a_clear_word(version: bytes) -> None:
    async with Scripted() as scripted:
        scripted.answer(b"INFO", b"$%d\r\n%s\r\n" % (len(version), version))
        with pytest.raises(StoreUnsupported, match=r"127\.0\.0\.1:\d+ is .*; rrqd needs Redis >= 7\.0"):
            await Store.open(scripted.dsn, StorePolicy(), client_name="x")


# Losing.


async def test_a_lost_connection_fails_every_call_and_none_is_sent_again() -> None:
    async with Scripted() as scripted:
        link = await Link.open(Endpoint.parse(scripted.dsn), name="x")
        scripted.answer(b"INCR", None)

        faults = await ended([link.call("PING"), link.call("INCR", "k"), link.call("INCR", "k"), link.call("PING")])

        assert faults[0] == b"PONG"
        assert [type(fault) for fault in faults[1:]] == [StoreUnavailable] * 3
        assert (scripted.times(b"INCR"), scripted.times(b"PING"), scripted.connections) == (1, 1, 1)


async def test_a_server_that_is_no_longer_the_one_to_talk_to_is_left(caplog: pytest.LogCaptureFixture) -> None:
    async with Scripted() as scripted:
        link = await Link.open(Endpoint.parse(scripted.dsn), name="x")
        scripted.answer(b"SET", b"-READONLY You can't write against a read only replica.\r\n")

        first, *others = await ended([link.call("SET", "k", str(n)) for n in range(5)])

        assert "READONLY" in str(first)
        assert {type(fault) for fault in (first, *others)} == {StoreUnavailable}
        assert link.lost is not None
        assert caplog.records == []  # the answers to the others come, too, and find nobody


async def test_a_lost_connection_stays_lost_and_says_so_at_once(link: Link, store: Store) -> None:
    await raw(store, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def lost() -> bool:
        return link.lost is not None

    await until_async(lost, 5, "the connection to be lost")
    with pytest.raises(StoreUnavailable, match="closed by the server"):
        await link.call("PING")


async def test_a_store_whose_connection_was_lost_opens_another(store: Store) -> None:
    await raw(store, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no")

    async def back() -> bool:
        try:
            return await raw(store, "PING") == b"PONG"
        except StoreUnavailable:
            return False

    await until_async(back, 5, "the store to be back")
    assert store.connected


async def test_all_who_ask_meanwhile_share_one_new_connection(server: Server) -> None:
    store = Store(Endpoint.parse(server.dsn), StorePolicy(), client_name="rrqd:shared")

    links = await asyncio.gather(*(store.link() for _ in range(50)))

    assert len(set(map(id, links))) == 1
    assert (await raw(store, "CLIENT", "LIST")).count(b"name=rrqd:shared") == 1
    await store.close()


async def test_a_killed_server_fails_the_calls_under_way(server: Server) -> None:
    link = await Link.open(Endpoint.parse(server.dsn), name="x")
    calls = [link.call("BLPOP", "nothing", "0"), link.call("PING")]
    await asyncio.sleep(0)

    await asyncio.to_thread(server.stop, 9)

    assert [type(fault) for fault in await ended(calls)] == [StoreUnavailable] * 2


async def test_a_silent_server_is_lost_after_its_time_and_not_before(server: Server) -> None:
    link = await Link.open(Endpoint.parse(server.dsn), name="x", timeout_seconds=1.0)
    server.pause()

    began = clock.monotonic()
    first = link.call("PING")
    with pytest.raises(StoreUnavailable, match="No answer from the server in 1 s"):
        await first

    assert 0.95 <= clock.monotonic() - began < 1.0 + BUSY_SECONDS  # a loop counts from when it last looked at its clock
    assert link.lost is not None


async def test_a_silent_server_does_not_hold_up_the_opening(server: Server) -> None:
    server.pause()

    began = clock.monotonic()
    with pytest.raises(StoreUnavailable):
        await Link.open(Endpoint.parse(server.dsn), name="x", timeout_seconds=1.0)

    assert 0.9 <= clock.monotonic() - began < 1.0 + BUSY_SECONDS


async def test_a_connection_with_nothing_to_ask_is_never_called_silent(server: Server) -> None:
    link = await Link.open(Endpoint.parse(server.dsn), name="x", timeout_seconds=0.2)
    other = await Link.open(Endpoint.parse(server.dsn), name="x")

    await other.call("BLPOP", "nothing", "0.5")

    assert await link.call("PING") == b"PONG"
    link.close()
    other.close()


async def test_an_answer_that_comes_in_time_again_and_again_keeps_the_connection(server: Server) -> None:
    link = await Link.open(Endpoint.parse(server.dsn), name="x", timeout_seconds=0.5)
    blocked = link.call("BLPOP", "nothing", "0.3")
    for _ in range(3):
        assert await blocked is None
        blocked = link.call("BLPOP", "nothing", "0.3")

    assert await blocked is None
    assert link.lost is None
    link.close()


async def test_a_closed_connection_fails_its_calls_and_frees_its_place(link: Link, store: Store) -> None:
    call = link.call("BLPOP", "nothing", "0")
    await asyncio.sleep(0)

    link.close()
    link.close()

    with pytest.raises(StoreUnavailable, match="was closed"):
        await call

    async def gone() -> bool:
        return b"name=rrqd:test:link" not in await raw(store, "CLIENT", "LIST")

    await until_async(gone, 5, "the connection to go")


async def test_a_loss_nobody_waits_for_is_no_complaint(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    link = await Link.open(Endpoint.parse(server.dsn), name="x")
    abandoned = link.call("BLPOP", "nothing", "0")
    await asyncio.sleep(0)
    link.close()
    del abandoned, link
    gc.collect()
    await asyncio.sleep(0)

    assert caplog.records == []


# Hearing.


async def test_what_the_server_says_unasked_is_heard_beside_the_answers(store: Store, dsn: str) -> None:
    heard: list[bytes] = []
    ear = await Store.open(dsn, StorePolicy(), client_name="x", channel="worker-1", on_message=heard.append)

    for number in range(3):
        await raw(store, "PUBLISH", "rrqd:to:worker-1", str(number))
        assert await raw(ear, "ECHO", str(number)) == str(number).encode()

    async def all_heard() -> bool:
        return heard == [b"0", b"1", b"2"]

    await until_async(all_heard, 5, "the messages")
    await ear.close()


async def test_a_listener_is_told_when_it_hears_nothing_any_more(dsn: str) -> None:
    pushes: list[list[Any]] = []
    link = await Link.open(Endpoint.parse(dsn), name="x", on_push=pushes.append)

    link.close()

    assert pushes == [[]]
