"""Pages keep what was counted, show what runs, and cost little."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator

import pytest

from rrqd.flight import BUCKETS, OTHER, ROWS, TALLIES, Counter, FlightDeck, FlightPage


@pytest.fixture
def deck() -> Iterator[FlightDeck]:
    deck = FlightDeck.create(8)
    yield deck
    deck.close()


@pytest.fixture
def page(deck: FlightDeck) -> FlightPage:
    page = deck.page(2)
    page.begin(41, "rrqd_n_default.0_aa", "default", 0, 1)
    return page


def test_a_second_reader_of_the_same_memory_sees_what_was_written(deck: FlightDeck, page: FlightPage) -> None:
    page.set_state("ready")
    page.beat_loop(11)
    page.beat_thread(12)
    page.start("job-1", 2**53 + 1, "send", "emails", 99)
    other = FlightDeck.attach(os.dup(deck.fd))
    seen = other.page(2)
    header = seen.snapshot()
    assert (header.pid, header.worker_id, header.pool, header.slot) == (41, "rrqd_n_default.0_aa", "default", 0)
    assert (header.state, header.beat_loop_ns, header.beat_thread_ns) == ("ready", 11, 12)
    (row,) = seen.running()
    assert (row.job_id, row.token, row.function, row.queue, row.deadline_ns) == (
        "job-1",
        2**53 + 1,
        "send",
        "emails",
        99,
    )
    other.close()


def test_a_finished_job_is_no_longer_shown(page: FlightPage) -> None:
    row = page.start("a", 1, "f", "q", 0)
    page.finish(row)
    assert page.running() == []


def test_the_65th_job_runs_without_a_row(page: FlightPage) -> None:
    rows = [page.start(str(number), number, "f", "q", 0) for number in range(ROWS + 1)]
    assert rows[-1] == -1
    page.finish(-1)
    assert len(page.running()) == ROWS
    page.finish(rows[0])
    assert page.start("again", 1, "f", "q", 0) == rows[0]


def test_the_next_process_goes_on_counting_and_starts_with_no_jobs(page: FlightPage) -> None:
    page.start("left behind", 1, "f", "q", 0)
    page.set_suspect("left behind")
    page.add(Counter.JOBS_DONE, 3)
    page.tally("q", "f", "ok", 0.1, 0.2)
    page.begin(42, "rrqd_n_default.0_bb", "default", 0, 2)
    page.add(Counter.JOBS_DONE)
    page.tally("q", "f", "ok", 0.1, 0.2)
    header = page.snapshot()
    assert page.running() == []
    assert (header.suspect, header.incarnations, header.counters["jobs_done"]) == ("", 2, 4)
    assert [one.count for one in page.tallies()] == [2]


def test_a_tally_counts_into_the_right_buckets(page: FlightPage) -> None:
    for run_seconds in (0.001, 0.0011, 400.0):
        page.tally("q", "f", "ok", 0.0, run_seconds)
    (tally,) = page.tallies()
    assert (tally.queue, tally.function, tally.outcome, tally.count) == ("q", "f", "ok", 3)
    assert tally.waits[0] == 3
    assert (tally.runs[0], tally.runs[1], tally.runs[BUCKETS - 1]) == (1, 1, 1)
    assert tally.run_seconds_sum == pytest.approx(400.0021)


def test_a_full_table_counts_as_other_and_loses_nothing(page: FlightPage) -> None:
    for number in range(TALLIES * 3):
        page.tally("q", f"f{number}", "ok" if number % 2 else "failed", 0.0, 0.0)
    tallies = page.tallies()
    assert sum(one.count for one in tallies) == TALLIES * 3
    assert {one.outcome for one in tallies if one.function == OTHER} == {"ok", "failed"}


def test_texts_that_are_too_long_are_cut_and_odd_ones_survive(page: FlightPage) -> None:
    page.start("ü" * 500, 1, "f" * 500, "q" * 500, 0)
    (row,) = page.running()
    assert row.job_id.startswith("üüü")
    assert row.function == "f" * 62


def test_a_state_must_be_one_of_the_list(page: FlightPage) -> None:
    with pytest.raises(KeyError):
        page.set_state("tired")


def test_a_page_beyond_the_deck_is_an_error(deck: FlightDeck) -> None:
    with pytest.raises(IndexError):
        deck.page(8)


def test_only_pages_with_a_past_are_listed_and_looking_costs_no_memory(deck: FlightDeck, page: FlightPage) -> None:
    before = os.fstat(deck.fd).st_blocks
    assert [one.index for one in deck.begun()] == [page.index]
    assert os.fstat(deck.fd).st_blocks == before


def test_start_finish_and_tally_together_take_microseconds(page: FlightPage) -> None:
    def once() -> float:
        began = time.perf_counter()
        for _ in range(2000):
            row = page.start("0b8a2f3e-1111-2222-3333-444455556666", 1, "myapp.jobs.send", "default", 1)
            page.finish(row)
            page.tally("default", "myapp.jobs.send", "ok", 0.004, 0.1)
        return (time.perf_counter() - began) / 2000

    assert min(once() for _ in range(5)) < 20e-6  # 2.5 µs on the machine of the first measurement
