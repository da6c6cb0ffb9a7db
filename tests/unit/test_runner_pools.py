"""RRQ's runner tables become pools: which, for which queues, with what in them; and what can't be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rrqd.config.given import settings_from_json
from rrqd.config.loader import parse
from rrqd.config.pool_table import PoolSettings
from rrqd.config.settings import Settings
from rrqd.config.shapes import homes, inherits_socket
from rrqd.exc import ConfigError
from rrqd.supervisor.plans import plan_of

NODE: dict[str, Any] = {
    "type": "socket",
    "cmd": ["node", "r.js"],
    "tcp_port": 9000,
    "pool_size": 3,
    "max_in_flight": 16,
}


def pools(rrq: dict[str, Any], of_rrqd: dict[str, Any] | None = None) -> dict[str, PoolSettings]:
    return Settings.model_validate({"rrq": rrq, "rrqd": {"pools": of_rrqd or {}}}).rrqd.pools


def test_a_plain_rrq_file_serves_the_default_queue_and_the_routed_ones() -> None:
    found = pools(
        {
            "runners": {"python": {"cmd": ["rrq-runner"], "tcp_port": 9100, "pool_size": 1}, "node": NODE},
            "runner_routes": {"rrq:queue:media": "node", "thumbs": "node"},
        }
    )
    assert {name: pool.queues for name, pool in found.items()} == {
        "python": ["default", "python#"],
        "node": ["media", "thumbs", "node#"],
    }
    node = found["node"]
    assert (node.runner, node.process_count, node.concurrency, node.sandbox) == ("node", 3, 16, False)


def test_the_default_runner_may_be_any() -> None:
    found = pools({"default_runner_name": "node", "default_queue_name": "work", "runners": {"node": NODE}})
    assert found["node"].queues == ["work", "node#"]


def test_a_default_runner_whose_queue_has_handlers_is_not_started() -> None:
    found = pools(
        {"runners": {"python": {"cmd": ["rrq-runner"], "tcp_port": 9100}}}, {"main": {"handlers": "jobs:registry"}}
    )
    assert list(found) == ["main"]


def test_a_pool_that_names_a_runner_decides_what_it_says_and_the_runners_table_the_rest() -> None:
    found = pools(
        {"runners": {"node": NODE}, "runner_routes": {"media": "node"}},
        {"pictures": {"runner": "node", "processes": 1, "timeout_seconds": 9.0}},
    )
    assert list(found) == ["pictures"]
    pool = found["pictures"]
    assert (pool.queues, pool.process_count, pool.concurrency, pool.timeout_seconds) == (["media", "node#"], 1, 16, 9.0)


def test_an_external_runner_has_one_worker_that_speaks_to_it() -> None:
    runner = {"tcp_port": 9000, "pool_size": 4, "max_in_flight": 8}
    found = pools({"runner_management_mode": "external", "default_runner_name": "go", "runners": {"go": runner}})
    assert (found["go"].process_count, found["go"].concurrency) == (1, 8)


def test_handlers_beside_runners_also_take_what_names_them() -> None:
    found = pools(
        {"runners": {"node": NODE}, "runner_routes": {"media": "node"}},
        {"one": {"handlers": "a:b"}, "two": {"handlers": "c:d", "queues": ["q"]}},
    )
    assert {name: pool.queues for name, pool in found.items()} == {
        "one": ["default", "python#"],
        "two": ["q"],
        "node": ["media", "node#"],
    }
    assert homes(found, "python") == {"node": "node#", "python": "python#"}
    alone = pools({}, {"one": {"handlers": "a:b"}})
    assert (alone["one"].queues, homes(alone, "python")) == (["default"], {})


def test_settings_with_runners_travel_without_loss() -> None:
    settings = Settings.model_validate({"rrq": {"runners": {"node": NODE}, "runner_routes": {"media": "node"}}})
    assert Settings.from_json(settings.to_json()) == settings
    given = settings_from_json(settings.to_json())
    assert plan_of(given, 1).pools["node"].processes == 3
    assert given.rrq.runners["node"].max_in_flight == 16


def test_all_runners_are_forked_from_one_mold() -> None:
    settings = Settings.model_validate({"rrq": {"runners": {"a": NODE, "b": {**NODE, "tcp_port": 9500}}}})
    assert len(plan_of(settings, 1).molds) == 1


@pytest.mark.parametrize(
    ("cmd", "choice", "inherits"),
    [
        (["rrqd", "runner", "--settings", "a:b"], "auto", True),
        (["/srv/venv/bin/rrqd", "runner"], "auto", True),
        (["python3", "-m", "rrqd", "runner"], "auto", True),
        (["rrq-runner", "--settings", "a.b"], "auto", False),
        (["rrqd", "runner"], "tcp", False),
        (["node", "r.js"], "inherited", True),
    ],
)
def test_our_own_runner_inherits_its_socket(cmd: list[str], choice: str, inherits: bool) -> None:
    assert inherits_socket(choice, cmd) is inherits


RUNNER = '[rrq.runners.node]\ncmd = ["node"]\ntcp_port = 9000\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[rrqd.pools.p]\nrunner = "nodd"\n', "rrq.toml:6: [rrqd.pools.p] runner: there is no [rrq.runners.nodd]"),
        ('[rrqd.pools.p]\nrunner = "node"\nhandlers = "a:b"\n', "rrq.toml:7: [rrqd.pools.p] handlers: a pool has"),
        ('[rrqd.pools.p]\nrunner = "node"\nconcurrency = 65\n', "[rrqd.pools.p] concurrency: must be at most 64"),
        ('[rrqd.pools.p]\nrunner = "node"\nisolation = "process"\n', "[rrqd.pools.p] isolation: is for handlers"),
        ('[rrqd.pools.node]\nhandlers = "a:b"\n', "[rrqd.pools] node: is the name of a runner, too"),
        ('[rrq.runner_routes]\nq = "nod"\n', "rrq.toml:6: [rrq.runner_routes] q: there is no [rrq.runners.nod]"),
        (
            '[rrq.runner_routes]\nq = "node"\n[rrqd.pools.p]\nhandlers = "a:b"\nqueues = ["q"]\n',
            'rrq.toml:9: [rrqd.pools.p] queues: "q" belongs to the runner "node"',
        ),
        ('[rrq.runners."a b"]\ncmd = ["x"]\ntcp_port = 1\n', "a pool's name is 1 to 32 letters"),
    ],
)
def test_what_cannot_be_is_told_with_its_line(text: str, problem: str) -> None:
    with pytest.raises(ConfigError) as told:
        parse("[rrq]\n" + RUNNER + text, Path("rrq.toml"), {})
    assert problem in str(told.value)


def test_an_external_runner_elsewhere_must_be_allowed() -> None:
    text = '[rrq]\nrunner_management_mode = "external"\n[rrq.runners.go]\ntcp_port = 1\ntcp_host = "10.0.0.7"\n'
    with pytest.raises(ConfigError, match=r'tcp_host: is not loopback; to allow it: allowed_hosts = .*"10.0.0.7"'):
        parse(text, Path("rrq.toml"), {})
    assert parse(text + 'allowed_hosts = ["10.0.0.7"]\n', Path("rrq.toml"), {}).settings.rrqd.pools["go"].runner == "go"
