"""The API keeps to its own document, whatever is sent: requests made up from it, right and wrong ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings

from rrqd.web import Visitor, access, dashboard
from tests.support.web import config_on

schemathesis = pytest.importorskip("schemathesis", reason="no schemathesis here: pip install -e '.[dev]'")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi.checks import positive_data_acceptance  # noqa: E402

EXAMPLES = 3
"""Of each operation, and the same ones each time: a machine that is slow today must not find something new."""


def test_every_operation_answers_as_the_document_says(
    dsn: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "BURST_REQUESTS", 1e9)
    app = dashboard(config_on(dsn, tmp_path), who=lambda _: Visitor("olaf", "operator"))
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    seen = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        # The text of a cursor or a time may be none; and what is a daemon's to do is refused (503) where none runs.
        of_a_daemon = "/actions/pool." in operation.path or "/actions/daemon." in operation.path
        keeps_to_it(operation, [positive_data_acceptance, *([not_a_server_error] if of_a_daemon else [])])
        seen += 1
    assert seen > 40


def keeps_to_it(operation: Any, but_for: list[Any]) -> None:
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def holds(case: Any) -> None:
        case.call_and_validate(excluded_checks=but_for)

    holds()
