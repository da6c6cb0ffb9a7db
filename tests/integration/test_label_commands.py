"""``rrqd job tag`` and its kin, ``rrqd events``: what they print, and how they end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.line import Line


@pytest.fixture
def line(tmp_path: Path, dsn: str) -> Line:
    return Line(tmp_path, dsn)


def test_tags_are_put_on_listed_found_and_taken_off(line: Line) -> None:
    job_id = line("enqueue", "noop", "--tag", "cli-blue", "--tag", "cli-red").out.strip()

    assert line("job", "tag", job_id, "cli-new").out == "cli-blue\ncli-red\ncli-new\n"
    assert line("job", "untag", job_id, "cli-red", "--json").data == {"id": job_id, "tags": ["cli-blue", "cli-new"]}
    assert line("job", "show", job_id, "--json").data["tags"] == ["cli-blue", "cli-new"]
    assert "cli-new" in line("job", "show", job_id).out
    assert {"tag": "cli-new", "jobs": 1} in line("job", "tags", "--json").data
    assert [row["id"] for row in line("job", "list", "--tag", "cli-blue", "--json").data] == [job_id]
    assert line("job", "list", "--tag", "nobody-has-it").err == "no such jobs\n"


def test_what_cannot_be_is_one_line(line: Line) -> None:
    assert line("job", "tag", "nobody", "x") == (1, "", "there is no job nobody (it may have expired)\n")
    assert line("job", "untag", "nobody", "x").code == 1
    said = line("job", "tag", "nobody", "x" * 201)
    assert (said.code, said.why) == (
        2, "rrqd job tag: tags entry is longer than 200 bytes; see rrqd job tag --help",
    )  # fmt: skip
    assert line("job", "track", "nobody").code == 1
    assert line("enqueue", "noop", "--tag", " ").code == 2


def test_tracked_jobs_are_told_of(line: Line) -> None:
    job_id = line("enqueue", "noop", "--track").out.strip()

    assert "was so already" in line("job", "track", job_id).out
    assert line("job", "untrack", job_id, "--json").data == {job_id: "changed"}
    told = [json.loads(text) for text in line("events", "--job", job_id, "--json").out.splitlines()]
    assert [(one["event"], one["job_id"]) for one in told] == [("enqueued", job_id), ("untracked", job_id)]
    assert f"enqueued      {job_id}  queue=default" in line("events", "--last", "2").out
