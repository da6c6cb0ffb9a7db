"""The short versions of `bench.soak`: what rrqd bears. The long ones are for a quiet machine, by hand.

No promise may be broken: no job lost, nothing left behind, an exit code of 0, a stack that shows the handler. What is
counted (memory, descriptors, processes) is held against its goal as it stands. What is timed is held against a generous
multiple of it, since the machine may be slow, and busy with other tests: what takes milliseconds (a death seen, a
replacement, a job free again) against 60 times, which still is less than a lease; what takes seconds (a hang told, a
stop, a dump) against 5 times; and the idle master's wake-ups against twice their goal. Of the ticks most may be late.
"""

from __future__ import annotations

import pytest

from bench import machine, soak
from bench.sheet import Figure, Sheet

PATIENCE = {"ms": 60.0, "s": 5.0, "a second": 2.0, "%": 8.0}
"""Unit -> how many times its goal a figure may be."""
MINUTES = 3


def _is_far_off(figure: Figure) -> bool:
    if not figure.goal:
        return False
    sign, number = figure.goal.split(" ")
    assert sign == "<="
    return figure.middle > float(number) * PATIENCE.get(figure.unit, 1.0)


@pytest.mark.timeout(MINUTES * 60)
@pytest.mark.parametrize(
    "name", ["kills", "hangs", "reloads", "chaos", "signals", "stops", "master", "dumps", "cron", "live"]
)
def test_it_bears(name: str) -> None:
    sheet = Sheet(machine.facts())
    soak.SCENARIOS[name](sheet, False)
    assert [note for note in sheet.notes if note.startswith("BROKEN")] == []
    assert [(one.what, one.middle, one.goal) for one in sheet.figures() if _is_far_off(one)] == []
