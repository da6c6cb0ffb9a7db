"""What the machines share."""

from __future__ import annotations

import faulthandler
import os

import pytest


@pytest.fixture(autouse=True)
def as_long_as_was_asked_for() -> None:
    """A machine that was told its number of examples takes its time: nothing ends it from outside."""
    if "RRQD_MACHINE_EXAMPLES" in os.environ:
        faulthandler.cancel_dump_traceback_later()
