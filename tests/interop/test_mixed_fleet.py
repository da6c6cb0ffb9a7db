"""Real RRQ workers and rrqd on the same queue, members of both killed: every job is done, none twice for no reason."""

from __future__ import annotations

import pytest

from bench import machine
from bench.fleet import fleet
from bench.sheet import Sheet
from tests.interop.conftest import RealRRQ


@pytest.mark.timeout(100)
def test_a_mixed_fleet_with_kills_loses_nothing(real_rrq: RealRRQ, monkeypatch: pytest.MonkeyPatch) -> None:
    """The short version of `python -m bench.soak fleet`. In the end no real worker is left, so rrqd has to find what
    they held."""
    monkeypatch.setenv("RRQD_TEST_RRQ", str(real_rrq.python))
    sheet = Sheet(machine.facts())

    fleet(sheet, False)

    assert sheet.notes == []
    assert [one.what for one in sheet.figures() if one.met is False] == []
