"""One event, one line, one write, never more than a pipe takes in one piece."""

from __future__ import annotations

import json
import os

from rrqd.logs import BACKLOG_LINES, LINE_BYTES, Journal, render


def test_json_has_time_level_event_first() -> None:
    line = render({"event": "worker.ready", "level": "info", "slot": 0}, as_json=True, wall_seconds=0.0)
    assert line == b'{"time":"1970-01-01T00:00:00.000Z","level":"info","event":"worker.ready","slot":0}\n'


def test_a_line_that_is_too_long_loses_the_middle_of_its_longest_field_and_stays_json() -> None:
    line = render({"event": "x", "text": "a" * 50_000, "kept": "short", "more": "b" * 9_000}, as_json=True)
    event = json.loads(line)
    assert len(line) <= LINE_BYTES
    assert event["kept"] == "short"
    assert event["text"].endswith("…")


def test_of_an_exception_the_end_is_kept() -> None:
    try:
        raise ValueError("the reason" + "x" * 10)
    except ValueError as error:
        event = json.loads(render({"event": "x", "exc_info": error, "pad": "p" * 9000}, as_json=True))
    assert event["exception"].endswith("ValueError: the reasonxxxxxxxxxx")


def test_the_console_puts_a_stack_below_its_line() -> None:
    text = render({"event": "x", "stack": "one\ntwo", "a": 1, "b": "two words"}, as_json=False).decode()
    assert text.endswith('x a=1 b="two words"\n    one\n    two\n')


def test_levels_below_the_threshold_are_silent() -> None:
    reader, writer = os.pipe()
    journal = Journal("t", as_json=True, level="warning", fd=writer)
    journal.logger().info("quiet")
    journal.logger(a=1).bind(b=2).warning("loud")
    assert json.loads(os.read(reader, 999)) | {"time": ""} == {
        "time": "", "level": "warning", "event": "loud", "role": "t", "a": 1, "b": 2,
    }  # fmt: skip
    os.close(reader)
    os.close(writer)


def test_whoever_must_not_wait_keeps_some_lines_and_drops_the_oldest() -> None:
    reader, writer = os.pipe()
    journal = Journal("t", as_json=True, patient=False, fd=writer)
    log = journal.logger()
    for number in range(BACKLOG_LINES * 3):
        log.info("line", number=number, pad="x" * 500)
    assert journal.dropped > 0
    first = os.read(reader, 1 << 20)
    journal.flush()
    assert json.loads(first.splitlines()[0])["number"] == 0
    assert json.loads(os.read(reader, 1 << 20).splitlines()[0])["number"] > first.count(b"\n")
    os.close(reader)
    os.close(writer)


def test_a_closed_stderr_is_no_reason_to_die() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    journal = Journal("t", as_json=True, fd=writer)
    journal.logger().info("into nothing")
    assert journal.dropped == 1
    os.close(writer)
