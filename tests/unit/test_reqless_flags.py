"""The flags of reqless' worker, in the daemon's words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rrqd.cli.main import cli
from rrqd.config.settings import Settings
from rrqd.exc import ConfigError
from rrqd.reqless.flags import Flags, settings_of


def tables(**flags: Any) -> dict[str, Any]:
    made = settings_of(Flags(**{"queues": ["mail"], "imports": ["email"], **flags}))
    Settings.model_validate(made)
    return made


def pool(**flags: Any) -> dict[str, Any]:
    (only,) = tables(**flags)["rrqd"]["pools"].values()
    return dict(only)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({}, {"isolation": "process", "processes": "auto", "preload": ["email"], "handlers": "dotted:email.*"}),
        ({"queues": ["@night", "a"]}, {"queues": ["@night", "a"], "queue_order": "buckets"}),
        ({"greenlets": 20, "workers": 3}, {"concurrency": 20, "threads": 20, "processes": 3}),
        ({"queues": ["a", "b", "a"], "allow": ["l.*"]}, {"queues": ["a", "b"], "handlers": "dotted:email.*,l.*"}),
        ({"workdir": Path("/srv/shop")}, {"cwd": "/srv/shop"}),
    ],
)  # fmt: skip
def test_flags_make_a_pool(flags: dict[str, Any], expected: dict[str, Any]) -> None:
    made = pool(**flags)

    assert {name: made[name] for name in expected} == expected


@pytest.mark.parametrize(
    ("flags", "dsn"),
    [
        ({}, "redis://localhost:6379"),
        ({"host": "cache"}, "redis://cache:6379"),
        ({"port": 7000}, "redis://localhost:7000"),
        ({"host": "cache", "port": 7000}, "redis://cache:7000"),
        ({"host": "rediss://cache:7000/2"}, "rediss://cache:7000/2"),
    ],
)
def test_the_server_is_a_host_or_a_url(flags: dict[str, Any], dsn: str) -> None:
    assert tables(**flags)["rrq"]["redis_dsn"] == dsn


def test_classes_in_the_folders_of_path_may_run(tmp_path: Path) -> None:
    (tmp_path / "shopjobs.py").touch()
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "jobs.py").touch()
    (tmp_path / "data").mkdir()

    made = pool(imports=[], paths=[str(tmp_path)])

    assert made["handlers"] == "dotted:lib.*,shopjobs.*"
    assert made["environment"]["PYTHONPATH"].split(":")[0] == str(tmp_path)


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"imports": []}, "no class may be run"),
        ({"paths": ["/nowhere"]}, "there is no such folder"),
        ({"host": "redis://cache", "port": 1}, "write it into the URL"),
        ({"imports": ["nosuch.jobs"]}, '--import nosuch.jobs: there is no module "nosuch".*--path'),
        ({"imports": ["my-jobs"]}, 'there is no module "my-jobs"'),
    ],
)
def test_what_can_not_be_meant_is_refused(flags: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        tables(**flags)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["-q", ""], "reqless-worker: --queue: a queue name can't be empty"),
        (["-q", "a", "--host", "http://x"], "reqless-worker: --host: must start with redis://, "),
        (["-q", "a", "--http", "x"], "reqless-worker: --http: "),
        (["-q", "a", "-w", "-1"], "rrqd reqless-worker: -w / --workers: -1 is not in the range 0<=x<=1024"),
        (["-q", "a", "-d", "/no/where"], "rrqd reqless-worker: -d / --workdir: "),
        ([], "rrqd reqless-worker: missing option '-q' / '--queue'"),
    ],
)
def test_a_wrong_flag_is_told_as_a_flag(
    words: list[str], why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(cli, ["reqless-worker", "--import", "email", *words], prog_name="rrqd")

    assert (done.exit_code != 0, done.stderr.count("\n"), done.stderr[: len(why)]) == (True, 1, why)


def test_two_workers_of_other_queues_have_folders_of_their_own() -> None:
    folders = {Flags(queues=queues).folder.name for queues in (["a"], ["a", "b"], ["ü/x"], ["*", "!x"])}

    assert folders == {"a", "a-b", "x", "all-not-x"}
    assert Flags(queues=["a"], name="box one").folder.name == "box-one"
