"""docs/cron.md: its file is one, and what it says of times is so."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from itertools import islice, pairwise
from pathlib import Path

from rrqd.config.loader import parse
from rrqd.config.rrq_table import CronJobSettings
from rrqd.model.cron import WORDS, read_schedule, read_zone
from rrqd.model.timetable import read_timetable
from tests.support.daemon import ROOT

PAGE = (ROOT / "docs" / "cron.md").read_text()


def test_the_file_on_the_page_is_read_as_it_says() -> None:
    (text,) = re.findall(r"(?ms)^```toml\n(.*?)^```$", PAGE)
    table = read_timetable(parse(text, Path("rrq.toml"), {}).settings)

    assert list(table) == ["report", "sweep"]
    sunday = datetime(2026, 11, 29, tzinfo=UTC)
    assert table["report"].schedule.next(sunday) == datetime(2026, 11, 30, 5, 30, tzinfo=UTC)
    assert (table["sweep"].unique, table["sweep"].missed) == (True, "skip")


def test_all_words_and_policies_are_told() -> None:
    assert set(re.findall(r"`(@\w+)`", PAGE)) == set(WORDS)
    policies = set(re.findall(r'(?m)^\| `"(\w+)"`', PAGE))
    assert policies == {"one", "all", "skip"}
    assert CronJobSettings.model_fields["missed"].default == "one"


def test_times_in_the_nights_when_clocks_change_are_as_told() -> None:
    paris = read_zone("Europe/Paris")
    spring, autumn = datetime(2026, 3, 28, 22, tzinfo=UTC), datetime(2026, 10, 24, 22, 30, tzinfo=UTC)
    elapsed, daily = read_schedule("15 * * * *", paris), read_schedule("30 2 * * *", paris)

    for start in (spring, autumn):
        ticks = list(islice(elapsed.ticks(start), 6))
        assert {(later - tick).total_seconds() for tick, later in pairwise(ticks)} == {3600}
    assert daily.next(spring) == datetime(2026, 3, 29, 1, tzinfo=UTC)  # when the clocks jump
    first = daily.next(autumn)
    assert first == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert daily.next(first) == datetime(2026, 10, 26, 1, 30, tzinfo=UTC)
