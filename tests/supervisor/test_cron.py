"""The timetable as an operator has it: entries in the file, jobs that run, a reload, and the commands."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from datetime import datetime

import pytest

from tests.support.app import whole
from tests.support.commands import rrqd
from tests.support.daemon import Daemon
from tests.support.wait import until

EVERY_SECOND = {
    "name": "tick", "function_name": "told", "schedule": "* * * * * *", "params": {"do": "ok"}, "unique": False,
}  # fmt: skip
NIGHTLY = {
    "function_name": "told", "schedule": "30 2 * * *", "timezone": "Europe/Paris", "unique": True,
    "queue_name": "nobody serves this",
}  # fmt: skip


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with whole(1, rrq={"cron_jobs": [EVERY_SECOND, NIGHTLY]}) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


def test_a_tick_becomes_a_job_that_runs(daemon: Daemon) -> None:
    fired = daemon.expect_log("cron.fired", entry="tick")

    tick = datetime.fromisoformat(fired["tick"])
    assert fired["job"] == f"cron:tick:{tick:%Y%m%dT%H%M%SZ}"
    job = until(lambda: ended(daemon, fired["job"]), 10, "the job to end")
    assert (job["status"], job["function"], job["params"]) == ("COMPLETED", "told", {"do": "ok"})


def ended(daemon: Daemon, job_id: str) -> dict[str, object] | None:
    job = dict(rrqd(daemon, "job", "show", job_id, "--json").data)
    return job if job["status"] == "COMPLETED" else None


def test_the_list_shows_what_came_and_what_comes(daemon: Daemon) -> None:
    daemon.expect_log("cron.fired", entry="tick")
    tick, nightly = rrqd(daemon, "cron", "list", "--json").data

    assert (tick["name"], tick["queue"], tick["paused"], tick["missed"]) == ("tick", "default", False, 0)
    assert tick["fired"] >= 1
    assert tick["last_job"].startswith("cron:tick:")
    assert (nightly["name"], nightly["timezone"], nightly["fired"]) == ("told", "Europe/Paris", 0)
    assert datetime.fromisoformat(nightly["next"]) > datetime.fromisoformat(tick["last"])
    head, first, second = rrqd(daemon, "cron", "list").out.splitlines()
    assert head.split() == [
        "name", "schedule", "timezone", "function", "queue", "next", "last", "fired", "missed", "paused",
    ]  # fmt: skip
    assert first.startswith("tick ")
    assert "30 2 * * *" in second


def test_the_next_ticks_of_all_come_in_their_order(daemon: Daemon) -> None:
    after = ("--after", "2026-10-24T23:59:58Z")
    rows = rrqd(daemon, "cron", "next", "--count", "2", *after, "--json").data
    assert [row["name"] for row in rows] == ["tick", "tick"]
    only = rrqd(daemon, "cron", "next", "told", "--count", "2", *after).out.splitlines()
    assert [line.split() for line in only[1:]] == [  # the night in which 2:30 comes twice
        ["2026-10-25T00:30:00Z", "2026-10-25T02:30:00+02:00", "told"],
        ["2026-10-26T01:30:00Z", "2026-10-26T02:30:00+01:00", "told"],
    ]
    said = rrqd(daemon, "cron", "next", "--after", "soon")
    assert (said.code, said.why) == (
        2,
        "rrqd cron next: --after: 'soon' is not an RFC 3339 time; see rrqd cron next --help",
    )


def test_a_pause_holds_on_every_machine_until_it_is_lifted(daemon: Daemon) -> None:
    assert rrqd(daemon, "cron", "pause", "tick").out == "tick  paused\n"
    assert rrqd(daemon, "cron", "pause", "tick").out == "tick  was paused already\n"
    before = rrqd(daemon, "cron", "list", "--json").data[0]
    assert before["paused"]

    def passed() -> bool:
        return bool(rrqd(daemon, "cron", "list", "--json").data[0]["last"] > before["last"])

    until(passed, 10, "a tick of the pause to pass")
    assert rrqd(daemon, "cron", "list", "--json").data[0]["fired"] == before["fired"]
    mark = daemon.mark()
    assert rrqd(daemon, "cron", "resume", "tick", "--json").data == {"tick": True}
    daemon.expect_log("cron.fired", since=mark, entry="tick")
    assert rrqd(daemon, "cron", "resume", "tick").out == "tick  was not paused\n"


def test_a_job_can_be_wanted_now_and_a_unique_one_once(daemon: Daemon) -> None:
    first = rrqd(daemon, "cron", "run", "told")
    again = rrqd(daemon, "cron", "run", "told")

    assert (first.code, first.err) == (0, "")
    assert (again.code, again.why) == (
        1,
        f"nothing was enqueued for told: its last job, {first.out.strip()}, has not ended",
    )
    data = json.loads(rrqd(daemon, "job", "show", first.out.strip(), "--json").out)
    assert (data["queue"], data["status"]) == ("nobody serves this", "PENDING")


@pytest.mark.parametrize("words", [("pause", "tik"), ("run", "tik"), ("next", "tik"), ("resume", "tick", "tik")])
def test_an_entry_that_is_not_there_is_said_with_the_nearest(daemon: Daemon, words: tuple[str, ...]) -> None:
    said = rrqd(daemon, "cron", *words)
    assert (said.code, said.why) == (1, 'rrqd: there is no cron entry "tik"; did you mean "tick"?')


def test_a_reload_brings_another_timetable(daemon: Daemon) -> None:
    daemon.rrq["cron_jobs"] = [NIGHTLY, {**EVERY_SECOND, "name": "other"}]
    daemon.write_config()
    mark = daemon.mark()
    daemon.signal(signal.SIGHUP)

    daemon.expect_log("cron.fired", since=mark, entry="other")
    assert [row["name"] for row in rrqd(daemon, "cron", "list", "--json").data] == ["told", "other"]
    last = daemon.expect_log("cron.fired", since=mark, entry="other")
    assert daemon.count_log("cron.fired", since=daemon.log().index(last), entry="tick") == 0
