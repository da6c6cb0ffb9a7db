"""The pytest plugin. It loads nothing of the engine before a test asks for it.

One server for the whole run (one for each process of pytest-xdist), started with the first test that needs it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from rrqd.testing.engine import Engine
    from rrqd.testing.faults import Fault


@pytest.fixture(scope="session")
def rrqd_engine() -> Iterator[Engine]:
    """The server and its engine."""
    from rrqd.testing.engine import Engine

    engine = Engine()
    yield engine
    engine.close()


@pytest.fixture
def rrqd_handlers() -> Any:
    """Handlers for jobs that are enqueued by a registered name: a Registry, PythonRunnerSettings, or
    ``"module:object"``. Override it in your conftest.py; functions enqueued by dotted name need none."""
    return None


@pytest.fixture
def rrqd_config() -> Any:
    """The path of the rrq.toml whose timetable ``rrqd.advance`` follows. Override it in your conftest.py."""
    return None


@pytest.fixture
def rrqd(rrqd_engine: Engine, rrqd_handlers: Any, rrqd_config: Any) -> Iterator[Engine]:
    """The engine, empty. Clients and queues that name no server of their own use it."""
    rrqd_engine.clear()
    rrqd_engine.use(rrqd_handlers, rrqd_config)
    with rrqd_engine.in_charge():
        yield rrqd_engine


@pytest.fixture(params=["duplicate", "kill-before", "kill-after", "lapse"])
def rrqd_fault(request: pytest.FixtureRequest) -> Fault:
    """Each fault in turn, for ``rrqd.run_all(fault=rrqd_fault)``."""
    from rrqd.testing.faults import Fault

    return Fault(request.param)
