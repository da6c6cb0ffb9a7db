"""The real store beside its model, under moves in any order: after each one every job lies in exactly one place, the
same one in both, and no key is left of what is over.

The normal suite tries the same orders every time. ``RRQD_MACHINE_EXAMPLES=5000`` tries that many new ones.
"""

from __future__ import annotations

import os

import pytest

from tests.property.machines import run_machine

LONG = int(os.environ.get("RRQD_MACHINE_EXAMPLES", "0"))
STEPS_AT_LEAST = 5_000


@pytest.mark.timeout(0 if LONG else 120)
def test_the_store_does_what_its_model_does(dsn: str) -> None:
    steps = run_machine(dsn, examples=LONG or 135, new=bool(LONG))
    assert LONG or steps >= STEPS_AT_LEAST
