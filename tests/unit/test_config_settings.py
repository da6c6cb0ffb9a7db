"""What settings accept, what they fill in, and that they survive the way to another process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from rrqd.config.fields import redact
from rrqd.config.settings import DaemonSettings, PoolSettings, Settings, resolve_state_dir


def pool(**keys: Any) -> PoolSettings:
    settings = Settings.model_validate({"rrqd": {"pools": {"p": {"handlers": "jobs:registry", **keys}}}})
    return settings.rrqd.pools["p"]


def test_queue_names_are_held_in_their_short_form() -> None:
    settings = Settings.model_validate(
        {
            "rrq": {
                "default_queue_name": "rrq:queue:mail",
                "default_dlq_name": "rrq:dlq:dead",
                "runner_routes": {"rrq:queue:a": "node"},
            }
        }
    )
    assert settings.rrq.default_queue_name == "mail"
    assert settings.rrq.default_dlq_name == "dead"
    assert settings.rrq.runner_routes == {"a": "node"}
    assert pool(queues=["rrq:queue:a", "b"]).queues == ["a", "b"]


def test_a_pool_without_queues_serves_the_default_queue() -> None:
    tables = {"rrq": {"default_queue_name": "mail"}, "rrqd": {"pools": {"p": {"handlers": "jobs:registry"}}}}
    assert Settings.model_validate(tables).rrqd.pools["p"].queues == ["mail"]


def test_a_process_pool_runs_one_job_at_a_time() -> None:
    assert pool(isolation="process").concurrency == 1
    with pytest.raises(ValidationError, match="raise processes instead"):
        pool(isolation="process", concurrency=2)


def test_threads_follow_concurrency_up_to_a_cap() -> None:
    assert pool(concurrency=7).thread_count == 7
    assert pool(concurrency=900).thread_count == 64
    assert pool(concurrency=900, threads=3).thread_count == 3


def test_settings_survive_the_way_to_another_process() -> None:
    settings = Settings.model_validate(
        {
            "rrq": {"redis_dsn": "rediss://u:p@h:1/2", "runners": {"n": {"cmd": ["x"], "tcp_port": 9}}},
            "rrqd": {
                "state_dir": Path("/x"),
                "pools": {
                    "a": {"handlers": "jobs:registry", "isolation": "process"},
                    "b": {"handlers": "app.jobs.registry", "queues": ["q"], "timeout_seconds": 3},
                },
            },
        }
    )
    assert Settings.from_json(settings.to_json()) == settings


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        Settings().rrqd.lease_seconds = 1.0


@pytest.mark.parametrize(
    "dsn",
    [
        "redis://localhost:6379/0",
        "redis://localhost",
        "rediss://user:secret@cache.internal:6380/1?timeout=1",
        "valkey://[::1]:6379",
        "unix:///run/valkey/valkey.sock?db=2",
        "redis+sentinel://a:1,b:2/m",
    ],
)
def test_a_good_dsn_is_kept_as_it_is(dsn: str) -> None:
    assert Settings.model_validate({"rrq": {"redis_dsn": dsn}}).rrq.redis_dsn == dsn


@pytest.mark.parametrize(
    "dsn",
    [
        "localhost:6379",
        "http://h",
        "redis://[::1/0",
        "redis://",
        "redis://h:99999",
        "redis://h:0",
        "redis://h/x",
        "unix://",
        "",
    ],
)
def test_an_impossible_dsn_is_refused(dsn: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"rrq": {"redis_dsn": dsn}})


@pytest.mark.parametrize(
    ("http", "address"),
    [
        ("127.0.0.1:9464", ("127.0.0.1", 9464)),
        ("[::1]:0", ("::1", 0)),
        ("off", None),
        ("", None),
    ],
)
def test_the_http_address_is_host_and_port_or_off(http: str, address: tuple[str, int] | None) -> None:
    assert DaemonSettings(http=http).http_address == address


@pytest.mark.parametrize("http", ["localhost", ":9464", "9464", "::1:9464", "h:70000", "h:٣"])
def test_an_impossible_http_address_is_refused(http: str) -> None:
    with pytest.raises(ValidationError):
        DaemonSettings(http=http)


@pytest.mark.parametrize("spec", ["registry", "jobs:", ":registry", "my-app.jobs:registry", "a:b:c", ".a:b", "a b:c"])
def test_handlers_that_cannot_be_a_module_and_an_object_are_refused(spec: str) -> None:
    with pytest.raises(ValidationError):
        pool(handlers=spec)


@pytest.mark.parametrize("name", ["a.b", "a b", "", "x" * 33, "a/b"])
def test_a_pool_name_that_would_break_a_worker_id_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Settings.model_validate({"rrqd": {"pools": {name: {"handlers": "a:b"}}}})


@pytest.mark.parametrize("schedule", ["0 0 6 * * Mon-Fri", "*/10 * * * * * 2030", "*/5 * * * *", "@daily"])
def test_schedules_are_rrqs_or_crons_or_words(schedule: str) -> None:
    job = {"function_name": "f", "schedule": schedule}
    assert Settings.model_validate({"rrq": {"cron_jobs": [job]}}).rrq.cron_jobs[0].schedule == schedule


def test_a_connect_timeout_of_zero_means_the_default() -> None:
    assert Settings.model_validate({"rrq": {"runner_connect_timeout_ms": 0}}).rrq.runner_connect_timeout_ms == 15_000


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("redis://u:se@cret@h/0", "redis://u:***@h/0"),
        ("redis://:secret@h/0", "redis://:***@h/0"),
        ("redis://h/0?password=x&db=1", "redis://h/0?password=***&db=1"),
        ("redis://h:6379/0", "redis://h:6379/0"),
    ],
)
def test_passwords_are_not_shown(text: str, shown: str) -> None:
    assert redact(text) == shown


def test_state_lies_where_it_was_asked_for_or_where_the_platform_keeps_state(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(rrqd=DaemonSettings(state_dir=Path("/x/y")))
    assert resolve_state_dir(given, {"STATE_DIRECTORY": "/var/lib/z"}) == Path("/x/y")
    assert resolve_state_dir(Settings(), {"STATE_DIRECTORY": "/var/lib/z:/b"}) == Path("/var/lib/z")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert resolve_state_dir(Settings(), {}) == Path("/var/lib/rrqd")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert resolve_state_dir(Settings(), {"XDG_STATE_HOME": "/s"}) == Path("/s/rrqd")
    monkeypatch.setenv("HOME", "/home/ada")
    assert resolve_state_dir(Settings(), {}) == Path("/home/ada/.local/state/rrqd")
