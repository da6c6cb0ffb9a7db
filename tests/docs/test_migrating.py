"""The page on RRQ: each defect in its table has the test that it names, and each such test its row."""

from __future__ import annotations

import re

from bench.judge.__main__ import CASES, NOT_JUDGED
from tests.support.daemon import ROOT

PAGE = ROOT / "docs" / "migrating-from-rrq.md"


def test_each_defect_of_the_table_has_its_test() -> None:
    rows = re.findall(r"(?m)^\| W(\d+b?) \|.*\| `([\w/.]+)` (w\d+b?) \|$", PAGE.read_text())

    assert [number for number, _, _ in rows] == [*map(str, range(1, 5)), "4b", *map(str, range(5, 25))]
    for number, file, name in rows:
        assert name == f"w{number.rjust(3 if number.endswith('b') else 2, '0')}"
        assert f"def test_{name}_" in (ROOT / file).read_text(), f"{file}: {name}"


def test_each_test_with_a_number_stands_in_the_table() -> None:
    told = set(re.findall(r"\| `([\w/.]+)` w\d", PAGE.read_text()))
    there = {
        str(file.relative_to(ROOT))
        for file in (ROOT / "tests").rglob("test_*.py")
        if re.search(r"(?m)^(?:async )?def test_w\d\d", file.read_text())
    }

    assert told == there


def test_each_defect_is_judged_or_it_is_said_why_not() -> None:
    page = PAGE.read_text()
    rows = re.findall(r"(?m)^\| (W\d+b?) \|.*\| `[\w/.]+` w\d+b? \|$", page)

    assert sorted(rows) == sorted({name.partition(" ")[0] for name in CASES} | set(NOT_JUDGED))
    for name, case in CASES.items():
        assert f"| {name} | {(case.__doc__ or '').rstrip('.')} |" in page
    assert all(f"{name} is not judged" in page for name in NOT_JUDGED)
