"""rrqd reload: how it ended is told, and `--config-only` leaves alone what did not change.

One daemon with one pool is shared by all who leave it well; which generation is in force, each asks for itself.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

import pytest

from rrqd.local_socket import ask
from tests.support.commands import Asking, least_ready, pool, rrqd, status
from tests.support.daemon import NO_JOBS, Daemon
from tests.support.wait import until

WAITS = "import os, threading\nwhile not os.path.exists('go'): threading.Event().wait(0.02)\n" + NO_JOBS
HANGS = "import threading\nthreading.Event().wait(60)\n" + NO_JOBS
FRAIL = """
from pathlib import Path

from rrqd.registry import Registry
from rrqd.runner_settings import PythonRunnerSettings


def on_startup():
    if Path(__file__).with_name("broken").exists():
        raise RuntimeError("the licence has run out")


registry = PythonRunnerSettings(registry=Registry(), on_startup=on_startup)
"""
THREE = {"a": {"processes": 1}, "b": {"processes": 2}, "c": {"processes": 1, "environment": {"X": "1"}}}


def molds(daemon: Daemon) -> list[str]:
    return sorted(title for title in daemon.children() if title.startswith("mold"))


def workers_of(daemon: Daemon, name: str) -> dict[str, int]:
    return {title: pid for title, pid in daemon.workers().items() if title.startswith(f"worker {name}/")}


@pytest.fixture(scope="module")
def shared() -> Iterator[Daemon]:
    with Daemon(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0


@pytest.fixture
def daemon(shared: Daemon) -> Iterator[Daemon]:
    """Of two workers, with the code and the settings that it was made with."""
    wrong = dict(shared.rrqd), {name: dict(pool) for name, pool in shared.pools.items()}
    yield shared
    shared.rrqd, shared.pools = wrong
    shared.write_config()
    shared.write_jobs(NO_JOBS)
    assert rrqd(shared, "reload", "--wait").code == 0


def generation(daemon: Daemon) -> int:
    """The one in force."""
    return int(status(daemon)["generation"])


def of_generation(number: int) -> list[str]:
    return [f"worker default/{slot} g{number}" for slot in (0, 1)]


def test_a_good_reload_says_which_generation_is_in_force_and_never_costs_capacity(daemon: Daemon) -> None:
    now = generation(daemon)
    with least_ready(daemon) as seen:
        said = rrqd(daemon, "reload", "--wait")
    assert (said.code, said.out) == (0, f"generation {now + 1} is in force\n")
    assert min(seen) >= 2
    assert sorted(daemon.workers()) == of_generation(now + 1)
    assert rrqd(daemon, "reload", "--json").data == {"ok": True, "generation": now + 2}


def test_nobody_waits_for_ever_for_workers_that_do_not_start() -> None:
    with Daemon({"default": {"processes": 2}}, stand_ins=False, jobs=FRAIL) as daemon:
        daemon.expect_log("rrqd.ready")
        (daemon.folder / "broken").touch()
        said = rrqd(daemon, "reload", "--wait")
        assert (said.code, said.out) == (1, "")
        assert "new workers of pool default do not stay" in said.err
        assert "the licence has run out" in said.err
        assert any(title.endswith("g1") for title in daemon.workers())
        (daemon.folder / "broken").unlink()
        assert rrqd(daemon, "reload", "--wait").out == "generation 3 is in force\n"
        assert daemon.stop() == 0


def test_a_mistake_in_the_file_is_told_with_its_line_and_nothing_is_asked_of_the_daemon(daemon: Daemon) -> None:
    before, now = daemon.children(), generation(daemon)
    daemon.pools["default"]["processes"] = "many"
    daemon.write_config()
    said = rrqd(daemon, "reload")
    assert said.code == 78
    assert "rrq.toml:" in said.err
    assert "processes" in said.err
    # Whoever asks without reading the file hears the same.
    answer = ask(daemon.state, {"command": "reload"})
    assert (answer["ok"], answer["kept"]) == (False, now)
    assert "processes" in answer["error"]
    assert status(daemon)["reload"]["ok"] is False
    assert daemon.children() == before


@pytest.mark.parametrize(
    ("jobs", "why"),
    [
        ("import nothing_of_that_name\n", "nothing_of_that_name"),
        ("raise RuntimeError('not today')\n", "not today"),
        ("registry = (\n", "jobs.py"),
        ("import os\nos._exit(3)\n", "boot-error 3"),
        (HANGS, "mold default was not ready within 2 s"),
    ],
    ids=["a module that is not there", "an error", "no Python", "an exit", "a hang"],
)
def test_code_that_does_not_come_up_is_refused_and_old_workers_are_untouched(
    jobs: str, why: str, daemon: Daemon
) -> None:
    before, now = daemon.workers(), generation(daemon)
    daemon.write_jobs(jobs)
    if jobs == HANGS:  # the limit that counts is the one of the file that is read now
        daemon.rrqd["boot_timeout_seconds"] = 2.0
        daemon.write_config()
    said = rrqd(daemon, "reload")
    assert said.code == 1
    assert why in said.why
    assert daemon.workers() == before
    assert (status(daemon)["generation"], status(daemon)["reload"]["ok"]) == (now, False)


def test_a_stop_ends_the_wait_for_a_reload() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.write_jobs(HANGS)
        asking = Asking(daemon, "reload")
        until(lambda: status(daemon)["reload"]["running"], 30, "the candidate")
        assert rrqd(daemon, "stop", "--no-wait").code == 0
        said = asking.said()
        assert (said.code, said.why) == (1, "rrqd: the daemon is stopping")
        assert daemon.wait() == 0


def test_a_second_reload_takes_the_place_of_the_first_and_both_hear_how_it_ended(daemon: Daemon) -> None:
    now = generation(daemon)
    daemon.write_jobs(HANGS)
    first = Asking(daemon, "reload", "--json")
    until(lambda: f"mold default g{now + 1}" in daemon.children(), 30, "the first candidate")
    daemon.write_jobs(NO_JOBS)
    assert rrqd(daemon, "reload", "--json").data == {"ok": True, "generation": now + 2}
    assert first.said().data == {"ok": True, "generation": now + 2}


def test_a_wrong_file_while_another_reload_is_under_way_spoils_only_its_own(daemon: Daemon) -> None:
    now = generation(daemon)
    daemon.write_jobs(WAITS)
    daemon.pools["default"]["cwd"] = str(daemon.folder)
    daemon.write_config()
    first = Asking(daemon, "reload", "--json")
    until(lambda: f"mold default g{now + 1}" in daemon.children(), 30, "the first candidate")
    good = (daemon.folder / "rrq.toml").read_text()
    (daemon.folder / "rrq.toml").write_text("what is this")
    assert ask(daemon.state, {"command": "reload"})["ok"] is False
    (daemon.folder / "rrq.toml").write_text(good)
    (daemon.folder / "go").touch()
    assert first.said().data == {"ok": True, "generation": now + 1}


# -- config only -------------------------------------------------------------------------------------------


def test_with_config_only_pools_keep_their_workers_and_molds_unless_they_or_what_all_share_changes() -> None:
    with Daemon(pools=copy.deepcopy(THREE)) as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.children()
        assert rrqd(daemon, "reload", "--config-only", "--wait").out == "generation 2 is in force\n"
        assert daemon.children() == before
        daemon.pools["b"]["concurrency"] = 3
        daemon.write_config()
        assert rrqd(daemon, "reload", "--config-only", "--wait").code == 0
        for name in ("a", "c"):
            assert workers_of(daemon, name).items() <= before.items()
        assert sorted(workers_of(daemon, "b")) == ["worker b/0 g3", "worker b/1 g3"]
        begun = daemon.expect_log("reload.begin", generation=3)
        assert (begun["changed"], begun["kept"]) == (["b"], ["a", "c"])
        # What all pools share changes all of them.
        daemon.rrqd["timeout_grace_seconds"] = 1.0
        daemon.write_config()
        assert rrqd(daemon, "reload", "--config-only", "--wait").code == 0
        assert sorted(daemon.workers()) == ["worker a/0 g4", "worker b/0 g4", "worker b/1 g4", "worker c/0 g4"]
        # Pools come and go.
        before = daemon.workers()
        del daemon.pools["a"]
        daemon.pools["d"] = {"processes": 1, "queues": ["fresh"]}
        daemon.write_config()
        assert rrqd(daemon, "reload", "--config-only", "--wait").code == 0
        assert sorted(daemon.workers()) == ["worker b/0 g4", "worker b/1 g4", "worker c/0 g4", "worker d/0 g5"]
        assert workers_of(daemon, "b").items() <= before.items()
        begun = daemon.expect_log("reload.begin", generation=5)
        assert (begun["added"], begun["removed"]) == (["d"], ["a"])
        assert daemon.stop() == 0


def test_of_two_pools_with_one_mold_the_changed_one_gets_a_new_one_and_the_other_keeps_the_old() -> None:
    with Daemon(pools=copy.deepcopy(THREE)) as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.workers()
        assert molds(daemon) == ["mold a g1", "mold c g1"]
        daemon.pools["a"]["concurrency"] = 3
        daemon.write_config()
        assert rrqd(daemon, "reload", "--config-only", "--wait").code == 0
        assert molds(daemon) == ["mold a g1", "mold a g2", "mold c g1"]
        assert sorted(workers_of(daemon, "a")) == ["worker a/0 g2"]
        assert workers_of(daemon, "b").items() <= before.items()
        # Whoever is kept is still looked after, from its own mold, which is kept, too.
        assert rrqd(daemon, "restart", "b/1").code == 0
        until(
            lambda: workers_of(daemon, "b").keys() and before["worker b/1 g1"] not in daemon.workers().values(),
            20,
            "b/1",
        )
        assert sorted(workers_of(daemon, "b")) == ["worker b/0 g1", "worker b/1 g1"]
        # A full reload brings them together again.
        assert rrqd(daemon, "reload", "--wait").code == 0
        until(lambda: molds(daemon) == ["mold a g3", "mold c g3"], 10, "the old molds to leave")
        assert sorted(daemon.workers()) == ["worker a/0 g3", "worker b/0 g3", "worker b/1 g3", "worker c/0 g3"]
        assert daemon.stop() == 0


def test_a_size_asked_for_while_the_molds_boot_is_kept() -> None:
    with Daemon(pools={"a": {"processes": 1}, "b": {"processes": 1}}) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.write_jobs(WAITS)
        daemon.pools["b"]["cwd"] = str(daemon.folder)
        daemon.write_config()
        asking = Asking(daemon, "reload", "--config-only", "--wait")
        until(lambda: "mold b g2" in daemon.children(), 30, "the candidate")
        assert rrqd(daemon, "scale", "a=2", "b=3").code == 0
        (daemon.folder / "go").touch()
        assert asking.said().code == 0
        assert (pool(daemon, "a")["processes"], pool(daemon, "b")["processes"]) == (2, 3)
        assert sorted(daemon.workers()) == [
            "worker a/0 g1", "worker a/1 g1", "worker b/0 g2", "worker b/1 g2", "worker b/2 g2",
        ]  # fmt: skip
        assert daemon.stop() == 0
