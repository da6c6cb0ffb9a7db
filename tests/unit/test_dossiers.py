"""What is kept of deaths, and that keeping it can't hurt."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from rrqd.logs import Journal, Logger
from rrqd.supervisor.dossier import KEPT, LARGEST_FILE_BYTES, STORY_STACK_CHARACTERS, Dossiers, story


@pytest.fixture
def log() -> Logger:
    return Journal("test", as_json=True).logger()


def death(number: int, **fields: Any) -> dict[str, Any]:
    return {"at": f"2026-01-01T00:00:{number % 60:02}Z", "who": f"worker default/{number}", "pid": number, **fields}


def test_the_newest_come_first_and_no_more_than_asked_for(tmp_path: Path, log: Logger) -> None:
    dossiers = Dossiers(tmp_path, log)
    assert dossiers.recent(10) == []
    for number in range(5):
        dossiers.add(death(number))
    assert [one["pid"] for one in dossiers.recent(3)] == [4, 3, 2]
    assert len(dossiers.recent(100)) == 5
    assert dossiers.recent(0) == dossiers.recent(-1) == []


def test_they_outlive_the_daemon_and_only_the_owner_reads_them(tmp_path: Path, log: Logger) -> None:
    for number in range(3):
        Dossiers(tmp_path, log).add(death(number, running=[{"job_id": "jüb \u2028 x"}]))
    assert [one["pid"] for one in Dossiers(tmp_path, log).recent(10)] == [2, 1, 0]
    assert Dossiers(tmp_path, log).path.stat().st_mode & 0o777 == 0o600


def test_memory_and_file_are_bounded(tmp_path: Path, log: Logger) -> None:
    dossiers = Dossiers(tmp_path, log)
    for number in range(300):
        dossiers.add(death(number, stack="x" * 10_000))
    assert len(dossiers.recent(1000)) == KEPT
    sizes = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(sizes) == {"crashes.jsonl", "crashes.jsonl.1"}
    assert max(sizes.values()) < LARGEST_FILE_BYTES + 20_000


def test_a_torn_last_line_costs_itself_and_nothing_after_it(tmp_path: Path, log: Logger) -> None:
    dossiers = Dossiers(tmp_path, log)
    dossiers.add(death(1))
    with dossiers.path.open("ab") as file:
        file.write(b'{"who": "worker default/2", "sta\xc3')
    again = Dossiers(tmp_path, log)
    assert [one["pid"] for one in again.recent(10)] == [1]
    again.add(death(3))
    again.add(death(4))
    assert [one["pid"] for one in Dossiers(tmp_path, log).recent(10)] == [4, 3, 1]


def test_lines_that_are_no_dossiers_are_passed_over(tmp_path: Path, log: Logger) -> None:
    lines = ["[]", "7", "", "what?", json.dumps(death(1))]
    (tmp_path / "crashes.jsonl").write_text("\n".join(lines) + "\n")
    assert [one["pid"] for one in Dossiers(tmp_path, log).recent(10)] == [1]


def test_a_folder_that_can_not_be_used_costs_nothing_but_the_record(tmp_path: Path, log: Logger) -> None:
    dossiers = Dossiers(tmp_path / "gone", log)
    dossiers.add(death(1))
    assert [one["pid"] for one in dossiers.recent(10)] == [1]
    (tmp_path / "crashes.jsonl").mkdir()
    dossiers = Dossiers(tmp_path, log)
    dossiers.add(death(2))
    assert [one["pid"] for one in dossiers.recent(10)] == [2]


def test_the_story_kept_with_a_job_is_short_and_has_no_empty_words() -> None:
    dossier = death(1, reason="crash-signal 11", signal="SIGSEGV", running=[], detail="", private_bytes=None)
    assert story(dossier) == {
        "at": dossier["at"], "who": "worker default/1", "reason": "crash-signal 11", "signal": "SIGSEGV",
    }  # fmt: skip
    long = story({**dossier, "stack": "a" * 10_000 + "the end"})
    assert len(long["stack"]) == STORY_STACK_CHARACTERS
    assert long["stack"].endswith("the end")
