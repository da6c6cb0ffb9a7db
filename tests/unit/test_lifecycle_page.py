"""One move: a row of the table, a row of the page, a script that says what it promises, and a test file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from rrqd.job import JobStatus
from rrqd.model.lifecycle import MOVES, End, Move, after

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "lifecycle.md").read_text("utf-8")
LUA = ROOT / "rrqd" / "store" / "lua"
#: Every script, the moves' and those that move no job; not the prelude that is laid under them.
SCRIPTS = sorted(path.stem for path in LUA.glob("*.lua") if not path.stem.startswith("_"))
#: Scripts that stand with their like in one test file.
TESTED_WITH = {"indexed": "tags", "tag": "tags", "track": "tracking", "throttle": "throttles", "log": "figures"}
#: New work, and what is written about work: a full server may refuse it, and jobs still end.
ADDITIONS = {"enqueue", "figures", "log", "recurring", "tag", "track"}


def rows_of_the_page() -> list[tuple[str, str, str, str]]:
    """The first table of the page, without its head."""
    rows = [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in PAGE.splitlines() if line[:1] == "|"]
    end = next(at for at, row in enumerate(rows) if at > 1 and len(row) != 4)
    assert rows[0] == ("from", "move", "how", "to")
    return [row for row in rows[2:end] if len(row) == 4]


def header_of(script: str) -> str:
    """The comment lines under the shebang."""
    lines = (LUA / f"{script}.lua").read_text("utf-8").splitlines()
    assert lines[0].startswith("#!lua")
    end = next(at for at, line in enumerate(lines[1:], 1) if not line.startswith("--"))
    return "\n".join(lines[1:end])


def test_the_page_and_the_table_say_the_same_in_the_same_order() -> None:
    table = [(before or "(nothing)", move, how, then or "(nothing)") for (before, move, how), then in MOVES.items()]

    assert rows_of_the_page() == table


def test_the_page_tells_what_each_move_does() -> None:
    told = re.findall(r"(?m)^\* \*\*(\w+)\*\*", PAGE)

    assert told == [move.value for move in Move]


def test_every_way_to_end_a_run_is_in_the_table() -> None:
    ways = {how for (_, move, how) in MOVES if move is Move.SETTLE}

    assert ways == set(End)


def test_every_state_is_reached_and_only_final_ones_are_left_by_nobody() -> None:
    stored = set(JobStatus) - {JobStatus.UNKNOWN}

    assert set(MOVES.values()) == {*stored, None}
    left = {before for (before, move, _) in MOVES if move is not Move.PURGE}
    assert stored - left == {JobStatus.COMPLETED, JobStatus.CANCELLED}


def test_what_the_table_does_not_list_is_not_allowed() -> None:
    assert after(JobStatus.ACTIVE, Move.SETTLE, End.COMPLETE) is JobStatus.COMPLETED
    assert after(JobStatus.PENDING, Move.SETTLE, End.COMPLETE) is None
    assert after(JobStatus.COMPLETED, Move.CANCEL) is None


@pytest.mark.parametrize("move", list(Move))
def test_a_move_has_a_script_and_a_test_file(move: Move) -> None:
    assert move.value in SCRIPTS
    assert (ROOT / "tests" / "integration" / f"test_{move}.py").is_file()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_has_a_test_file(script: str) -> None:
    name = TESTED_WITH.get(script, script)
    assert (ROOT / "tests" / "integration" / f"test_{name}.py").is_file()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_says_its_keys_arguments_answer_and_promise(script: str) -> None:
    marks = re.findall(r"(?m)^-- (KEYS  |ARGV  |Answer: |Promise: )", header_of(script))

    assert marks == ["KEYS  ", "ARGV  ", "Answer: ", "Promise: "]


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_full_server_refuses_only_what_no_running_job_needs(script: str) -> None:
    shebang = (LUA / f"{script}.lua").read_text("utf-8").splitlines()[0]

    assert shebang == ("#!lua" if script in ADDITIONS else "#!lua flags=allow-oom")
