"""What all unit tests share."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, find, settings
from hypothesis import strategies as st

#: How long an example takes is the machine's business, which may have other work.
settings.register_profile("busy machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy machine")


@pytest.fixture(scope="session", autouse=True)
def tables_of_text() -> None:
    """On a machine where hypothesis never ran, its first text takes seconds: it writes tables of all signs into its
    folder. Whichever test came first would be blamed for being slow."""
    find(st.text(), lambda text: bool(text))
