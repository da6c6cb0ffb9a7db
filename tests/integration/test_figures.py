"""Figures and logs: gathered by workers, added once, read by day and by job."""

from __future__ import annotations

import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from rrqd.client import RRQClient, SyncRRQClient
from rrqd.exc import InvalidRequest, StoreUnavailable
from rrqd.model.figures import Tallied
from rrqd.model.lifecycle import End
from rrqd.runtime.outage import Outage
from rrqd.runtime.reports import LINES_MOST, REPORT_MOST, Reports
from rrqd.store import Charge, Store
from rrqd.store.figures import LOG_LINES_MOST
from tests.support.line import Line
from tests.support.moves import hand, job, raw

KEPT = 100_000
LINE = b'{"at":"2026-01-31T00:00:00+00:00","attempt":1,"message":"half way","fields":{"rows":12}}'


def tallied(*times: float, end: End = End.COMPLETE) -> Tallied:
    one = Tallied()
    for seconds in times:
        one.add(end, seconds, seconds * 2)
    return one


async def test_reports_of_many_workers_add_up_as_if_one_had_seen_all(store: Store) -> None:
    await hand(store, "w1")
    await hand(store, "w2")
    first, second = (0.25, 3600.0, 0.0004), (1e6, 7.5)
    assert await store.add_figures("w1", 1, {("mail", "f"): tallied(*first), ("x", "f"): tallied(1)}, KEPT)
    assert await store.add_figures("w2", 1, {("mail", "f"): tallied(*second)}, KEPT)
    assert await store.add_figures("w2", 2, {("mail", "f"): tallied(2, 2, end=End.RETRY)}, KEPT)

    (day,) = await store.figures("mail")
    assert day.day == datetime.now(UTC).date().isoformat()
    assert (day.completed, day.retried, day.buried) == (5, 2, 0)
    both = [*first, *second]
    assert (day.run.count, day.wait.count) == (5, 7)
    assert day.run.mean_seconds == pytest.approx(2 * statistics.fmean(both))
    assert day.run.sd_seconds == pytest.approx(2 * statistics.stdev(both))
    assert list(day.wait.histogram.items()) == [("ms0", 1), ("ms200", 1), ("s2", 2), ("s7", 1), ("h1", 1), ("d11", 1)]


async def test_a_report_that_is_sent_twice_counts_once(store: Store) -> None:
    await hand(store, "w1")
    assert await store.add_figures("w1", 1, {("mail", "f"): tallied(1)}, KEPT) is True
    assert await store.add_figures("w1", 1, {("mail", "f"): tallied(1)}, KEPT) is False
    assert (await store.figures("mail"))[0].completed == 1


async def test_figures_expire_and_days_without_any_are_empty(store: Store) -> None:
    await store.add_figures("w1", 1, {("mail", "f"): tallied(1)}, KEPT)
    (key,) = await raw(store, "KEYS", "rrqd:figures:*")
    assert KEPT - 10 < await raw(store, "TTL", key) <= KEPT
    days = await store.figures("mail", days=3)
    assert [day.completed for day in days] == [1, 0, 0]
    assert days[0].day > days[1].day > days[2].day


async def test_a_spoilt_key_costs_only_its_own_figures(store: Store) -> None:
    day = datetime.now(UTC).date().isoformat()
    await raw(store, "SET", f"rrqd:figures:{day}:bad", "text")
    assert await store.add_figures("w1", 1, {("bad", "f"): tallied(1), ("good", "f"): tallied(1)}, KEPT)
    assert (await store.figures("good"))[0].completed == 1


async def test_lines_are_written_by_the_holder_also_just_after_the_end(store: Store) -> None:
    await store.enqueue_many([job("a"), job("b")])
    worker = await hand(store)
    a, b = await worker.take()
    assert await store.add_log_lines([("a", a.token, LINE), ("b", a.token, LINE), ("nobody", 1, LINE)]) == 1
    await worker.settle(a)
    assert await store.add_log_lines([("a", a.token, LINE)]) == 1
    await store.close_worker("worker-1", reason="x", charge=Charge.NOBODY)
    assert await store.add_log_lines([("b", b.token, LINE)]) == 0

    lines = await store.log_lines("a")
    assert [(line.message, line.fields) for line in lines] == [("half way", {"rows": 12})] * 2
    assert 0 < await raw(store, "TTL", "rrqd:log:a") <= 7 * 86_400


async def test_of_too_many_lines_the_newest_stay(store: Store) -> None:
    await store.enqueue_many([job("a")])
    (a,) = await (await hand(store)).take()
    many = [("a", a.token, LINE.replace(b"half way", b"%d" % n)) for n in range(LOG_LINES_MOST + 50)]
    assert await store.add_log_lines(many) == len(many)
    lines = await store.log_lines("a")
    assert [line.message for line in lines] == [str(n) for n in range(50, LOG_LINES_MOST + 50)]


async def test_what_was_not_heard_is_told_again_and_nothing_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.enqueue_many([job("a")])
    (a,) = await (await hand(store)).take()
    reports = Reports(store, "worker-1", KEPT, Outage(None))
    add, away = store.add_figures, True

    async def reply_is_lost(*words: object) -> bool:
        await add(*words)  # type: ignore[arg-type]
        if away:
            raise StoreUnavailable("gone")
        return True

    monkeypatch.setattr(store, "add_figures", reply_is_lost)
    reports.tally("mail", "f", End.COMPLETE, 1, 1)
    reports.line(a, LINE)
    with pytest.raises(StoreUnavailable):
        await reports.send()
    reports.tally("mail", "f", End.COMPLETE, 1, 1)
    away = False
    await reports.send()
    assert (await store.figures("mail"))[0].completed == 2
    assert len(await store.log_lines("a")) == 1


async def test_figures_of_many_functions_travel_in_several_reports(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports, add, sizes = Reports(store, "worker-1", KEPT, Outage(None)), store.add_figures, list[int]()

    async def measured(worker: str, number: int, seen: dict[Any, Any], kept: int) -> bool:
        sizes.append(len(seen))
        return await add(worker, number, seen, kept)

    monkeypatch.setattr(store, "add_figures", measured)
    for n in range(REPORT_MOST + 3):
        reports.tally("mail", f"f{n}", End.COMPLETE, 1, 1)
    await reports.send()

    assert sizes == [REPORT_MOST, 3]
    assert (await store.figures("mail"))[0].completed == REPORT_MOST + 3


async def test_lines_are_kept_through_an_outage_and_then_sent_in_order(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store.enqueue_many([job("a")])
    (a,) = await (await hand(store)).take()
    reports = Reports(store, "worker-1", KEPT, Outage(None))

    async def away(_lines: object) -> int:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(store, "add_log_lines", away)
        for n in range(LINES_MOST + 10):
            reports.line(a, b'{"at":"","attempt":1,"message":"%d"}' % n)
        with pytest.raises(StoreUnavailable):
            await reports.send()
        reports.line(a, b'{"at":"","attempt":1,"message":"last"}')
    await reports.send()
    assert [line.message for line in await store.log_lines("a")][-2:] == [str(LINES_MOST + 9), "last"]


async def test_the_clients_read_both(store: Store, dsn: str) -> None:
    await store.add_figures("w1", 1, {("mail", "f"): tallied(1)}, KEPT)
    async with RRQClient(config={"redis_dsn": dsn}) as client:
        assert [day.completed for day in await client.stats.queue("rrq:queue:mail", days=2)] == [1, 0]
        assert await client.past.log("nobody") == []
        with pytest.raises(InvalidRequest, match="days"):
            await client.stats.queue("mail", days=0)


def test_commands_show_both(dsn: str, tmp_path: Path) -> None:
    line = Line(tmp_path, dsn)
    with SyncRRQClient(config={"redis_dsn": dsn}) as client:
        job_id = client.enqueue("noop")
        assert client.past.log(job_id) == []
        assert len(client.stats.queue("mail", days=2)) == 2
    assert line("job", "log", "nobody").code == 1
    assert line("job", "log", job_id) == (0, "", f"job {job_id} has written nothing to its log\n")
    assert line("stats", "mail").out.startswith("day ")
    assert [day["queue"] for day in line("stats", "mail", "--days", "2", "--json").data] == ["mail"] * 2
    assert line("stats", "mail", "--until", "2020-02-30").code == 2
