"""The commands to a running daemon: status, scale, pause, resume, restart, stop.

Two daemons are shared by all who leave them as they were: one of stand-ins, and a whole one.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

from rrqd.local_socket import ask, reachable
from tests.support.app import App, app, whole
from tests.support.commands import least_ready, pool, rrqd, status
from tests.support.daemon import ROOT, Daemon, alive
from tests.support.wait import until

SIZES = {"default": 2, "mail": 1, "x": 1}


@pytest.fixture(scope="module")
def house() -> Iterator[Daemon]:
    with Daemon(http=True, pools={name: {"processes": size} for name, size in SIZES.items()}) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0


@pytest.fixture
def daemon(house: Daemon) -> Iterator[Daemon]:
    """Stand-ins: two workers of the pool default, one of mail, one of x."""
    _in_order(house, SIZES)
    yield house
    _in_order(house, SIZES)


@pytest.fixture(scope="module")
def working() -> Iterator[Daemon]:
    with whole(http=True) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


@pytest.fixture
async def a(working: Daemon) -> AsyncIterator[App]:
    """The whole rrqd with two workers."""
    _in_order(working, {"default": 2})
    async with app(working) as found:
        found.close()
        found.ledger.unlink(missing_ok=True)
        yield found


def _in_order(daemon: Daemon, sizes: dict[str, int]) -> None:
    def is_so() -> bool:
        pools = status(daemon)["pools"]
        phases = {name: [slot["phase"] for slot in one["slots"]] for name, one in pools.items()}
        paused = [name for name, one in pools.items() if one["paused"]]
        return not paused and phases == {name: ["ready"] * size for name, size in sizes.items()}

    until(is_so, 20, "the house to be in order")


def titles(daemon: Daemon) -> list[str]:
    return sorted(daemon.workers())


# -- status ------------------------------------------------------------------------------------------------


def test_status_knows_every_process_and_needs_no_server(daemon: Daemon) -> None:
    said = rrqd(daemon, "status", "--json")
    assert said.code == 69  # these stand-ins have no server
    master = said.data["master"]
    there = [*master["processes"], *(slot for one in master["pools"].values() for slot in one["slots"])]
    assert {one["title"]: one["pid"] for one in there} == daemon.children()
    assert {one["phase"] for one in there} == {"ready"}
    assert (master["ready"], master["mode"]) == (True, "run")
    assert all(title.endswith(f" g{master['generation']}") for title in daemon.workers())
    shown = rrqd(daemon, "status").out
    for title, pid in daemon.children().items():
        assert any(title in line and str(pid) in line for line in shown.splitlines())


# -- scale -------------------------------------------------------------------------------------------------


def test_a_pool_grows_and_shrinks_and_whoever_goes_finishes_its_job(daemon: Daemon) -> None:
    before, mark = daemon.workers(), daemon.mark()
    assert rrqd(daemon, "scale", "default=3").out == "pool default: 2 → 3 processes\n"
    daemon.expect_log("worker.ready", slot=2, since=mark)
    assert rrqd(daemon, "scale", "default=+1", "--json").data == [
        {"ok": True, "pool": "default", "processes": 4, "before": 3}
    ]
    daemon.expect_log("worker.ready", slot=3, since=mark)
    daemon.hold_up("last", slot="default.3")
    assert rrqd(daemon, "scale", "default=-2").code == 0
    daemon.expect_log("worker.left", slot=2, reason="planned", since=mark)
    daemon.expect_log("worker.draining", slot=3, since=mark)
    daemon.let_go()
    daemon.expect_log("worker.left", slot=3, reason="planned", since=mark)
    assert daemon.did("last") == ["begin", "end"]
    assert daemon.workers() == before
    assert pool(daemon)["processes"] == 2


def test_a_slot_that_still_drains_can_be_filled_again(daemon: Daemon) -> None:
    before, mark = titles(daemon), daemon.mark()
    daemon.hold_up("long", slot="default.1")
    assert rrqd(daemon, "scale", "default=1").code == 0
    daemon.expect_log("worker.draining", slot=1, since=mark)
    assert rrqd(daemon, "scale", "default=2").code == 0
    daemon.expect_log("worker.ready", since=mark, slot=1)
    assert daemon.did("long") == ["begin"]
    daemon.let_go()
    daemon.expect_log("worker.left", since=mark, slot=1, reason="planned")
    assert daemon.did("long") == ["begin", "end"]
    assert titles(daemon) == before


def test_what_can_not_be_is_refused_in_one_line_and_changes_nothing(daemon: Daemon) -> None:
    before = daemon.children()
    for words, code, why in (
        (("scale", "nobody=3"), 1, 'rrqd: there is no pool "nobody"; there are default, mail, x'),
        (("scale", "default=0"), 1, "rrqd: pool default keeps at least one process; rrqd pause default makes it"),
        (("scale", "default=-2"), 1, "rrqd: pool default keeps at least one process"),
        (("scale", "default=100000"), 1, "rrqd: this daemon has room for 128 workers; 126 of them here"),
        (("scale", "default=many"), 2, 'rrqd scale: "default=many" is not POOL=N; write default=4, or default=+1'),
        (("scale", "4"), 2, 'rrqd scale: "4" is not POOL=N'),
        (("scale",), 2, "rrqd scale: missing argument"),
        (("pause", "nobody"), 1, 'rrqd: there is no pool "nobody"; there are default, mail, x'),
        (("resume", "nobody"), 1, 'rrqd: there is no pool "nobody"'),
        (("restart", "nobody"), 1, 'rrqd: there is no pool "nobody"'),
        (("restart", "default/7"), 1, "rrqd: no worker serves in default, slot 7"),
        (("restart", "default/x"), 2, 'rrqd restart: "default/x" is not POOL/SLOT, for example default/0'),
        (("restart", "/0"), 2, 'rrqd restart: "/0" is not POOL/SLOT'),
    ):
        said = rrqd(daemon, *words)
        assert said.code == code, (words, said)
        assert said.why.startswith(why), (words, said)
    assert daemon.children() == before
    assert {name: one["processes"] for name, one in status(daemon)["pools"].items()} == SIZES


def test_a_size_asked_for_by_hand_stays_until_the_file_has_another() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        assert rrqd(daemon, "scale", "default=3").code == 0
        for generation in (2, 3):
            assert rrqd(daemon, "reload", "--wait").code == 0
            assert titles(daemon) == [f"worker default/{slot} g{generation}" for slot in range(3)]
        daemon.pools["default"]["processes"] = 1
        daemon.write_config()
        assert rrqd(daemon, "reload", "--wait").code == 0
        assert titles(daemon) == ["worker default/0 g4"]
        assert daemon.stop() == 0


def test_ttin_and_ttou_are_one_more_and_one_less(daemon: Daemon) -> None:
    before, mark = titles(daemon), daemon.mark()
    daemon.signal(signal.SIGTTIN)
    daemon.expect_log("worker.ready", pool="default", slot=2, since=mark)
    for slot in (2, 1):
        daemon.signal(signal.SIGTTOU)
        daemon.expect_log("worker.left", pool="default", slot=slot, reason="planned", since=mark)
    daemon.signal(signal.SIGTTOU)
    assert "keeps at least one" in daemon.expect_log("pool.not_scaled", since=mark)["why"]
    assert titles(daemon) == [one for one in before if not one.startswith("worker default/1 ")]
    assert rrqd(daemon, "scale", "default=2").code == 0


# -- pause and resume --------------------------------------------------------------------------------------


def ready(daemon: Daemon) -> int:
    with urlopen(f"http://{daemon.rrqd['http']}/readyz", timeout=10) as answer:
        return int(answer.status)


async def test_a_paused_pool_finishes_what_runs_and_takes_nothing_new_until_resumed(a: App) -> None:
    daemon = a.daemon
    running = await a.held(4)
    assert rrqd(daemon, "pause", "default").out == "paused: default\n"
    waiting = [await a.tell() for _ in range(4)]
    a.let_go()
    assert await a.ends(running) == {"COMPLETED": 4}
    assert {(await a.job(one)).status for one in waiting} == {"PENDING"}
    assert pool(daemon)["paused"] is True
    assert pool(daemon)["ready"] == 2
    until(lambda: ready(daemon) == 200, 5, "readiness, as before")
    shown = await asyncio.to_thread(rrqd, daemon, "status")
    assert "pool default is paused: rrqd resume default" in shown.out
    assert rrqd(daemon, "resume").out == "no pool is paused\n"
    assert await a.ends(waiting) == {"COMPLETED": 4}


async def test_a_pause_answers_when_no_job_is_under_way_to_a_worker_any_more(a: App) -> None:
    for _ in range(5):
        waiting = [await a.tell() for _ in range(10)]
        assert (await asyncio.to_thread(rrqd, a.daemon, "pause")).out == "paused: default\n"
        late = [await a.tell() for _ in range(5)]
        assert {(await a.job(one)).status for one in late} == {"PENDING"}
        assert (await asyncio.to_thread(rrqd, a.daemon, "resume")).code == 0
        assert await a.ends(waiting + late) == {"COMPLETED": 15}


def test_a_pause_names_who_has_not_heard_it(daemon: Daemon) -> None:
    frozen = next(pid for title, pid in daemon.workers().items() if title.startswith("worker default/1 "))
    os.kill(frozen, signal.SIGSTOP)
    try:
        said = rrqd(daemon, "pause", "default")
    finally:
        os.kill(frozen, signal.SIGCONT)
    assert (said.code, said.out) == (0, "paused: default\n")
    assert "not heard yet by default/1" in said.err
    until(lambda: all(slot["quiet"] for slot in pool(daemon)["slots"]), 5, "the pause, heard by both")
    assert rrqd(daemon, "resume").code == 0


async def test_a_worker_born_into_a_pause_takes_nothing(a: App) -> None:
    daemon, mark = a.daemon, a.daemon.mark()
    assert rrqd(daemon, "pause").out == "paused: default\n"
    waiting = [await a.tell() for _ in range(3)]
    assert rrqd(daemon, "restart", "default").code == 0
    until(lambda: daemon.count_log("worker.left", since=mark) == 2, 20, "the old to leave")
    assert rrqd(daemon, "scale", "default=3").code == 0
    daemon.expect_log("worker.ready", slot=2, since=mark)
    assert a.starts() == {}
    assert {(await a.job(one)).status for one in waiting} == {"PENDING"}
    assert rrqd(daemon, "resume", "default").code == 0
    assert await a.ends(waiting) == {"COMPLETED": 3}
    assert rrqd(daemon, "scale", "default=2").code == 0


async def test_tstp_makes_the_whole_node_quiet_and_cont_ends_it(a: App) -> None:
    daemon, mark = a.daemon, a.daemon.mark()
    daemon.signal(signal.SIGTSTP)
    daemon.expect_log("node.quiet", since=mark)
    until(lambda: all(slot["quiet"] for slot in pool(daemon)["slots"]), 5, "the pause, heard by both")
    assert pool(daemon)["paused"] is True
    waiting = [await a.tell() for _ in range(4)]
    said = rrqd(daemon, "resume", "default")
    assert (said.code, said.why) == (
        1, "rrqd: the whole node is quiet (SIGTSTP); rrqd resume, without a pool, ends that",
    )  # fmt: skip
    assert a.starts() == {}
    daemon.signal(signal.SIGCONT)
    daemon.expect_log("node.resumed", since=mark)
    assert await a.ends(waiting) == {"COMPLETED": 4}


def test_pools_are_paused_one_by_one_and_resumed_all_at_once(daemon: Daemon) -> None:
    assert rrqd(daemon, "pause", "mail", "--json").data == {"ok": True, "paused": ["mail"], "unheard": []}
    assert rrqd(daemon, "pause", "mail").code == 0
    assert rrqd(daemon, "pause").out == "paused: default, mail, x\n"
    assert rrqd(daemon, "resume", "mail", "--json").data == {"ok": True, "paused": ["default", "x"], "unheard": []}
    assert rrqd(daemon, "reload").code == 0
    assert [name for name, one in status(daemon)["pools"].items() if one["paused"]] == ["default", "x"]
    assert rrqd(daemon, "resume").out == "no pool is paused\n"


# -- restart -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "replaced"),
    [
        (["default/1"], ["default/1"]),
        (["default"], ["default/0", "default/1"]),
        ([], ["default/0", "default/1", "mail/0", "x/0"]),
    ],
    ids=["a slot", "a pool", "all"],
)
def test_a_restart_replaces_who_was_named_and_never_costs_capacity(
    words: list[str], replaced: list[str], daemon: Daemon
) -> None:
    before, mark = daemon.workers(), daemon.mark()
    with least_ready(daemon) as seen:
        said = rrqd(daemon, "restart", *words, "--json")
        assert sorted(said.data["workers"]) == replaced
        until(
            lambda: daemon.count_log("worker.left", reason="planned", since=mark) == len(replaced),
            20,
            "the old to leave",
        )
    assert min(seen) >= 2
    after = daemon.workers()
    assert after.keys() == before.keys()
    changed = {title.split()[1] for title in before if after[title] != before[title]}
    assert sorted(changed) == replaced


def test_a_worker_that_is_replaced_by_hand_finishes_its_job(daemon: Daemon) -> None:
    mark = daemon.mark()
    daemon.hold_up("by hand", slot="mail.0")
    assert rrqd(daemon, "restart", "mail").out == "being replaced: mail/0\n"
    daemon.expect_log("worker.draining", pool="mail", since=mark)
    daemon.let_go()
    daemon.expect_log("worker.left", pool="mail", reason="planned", since=mark)
    assert daemon.did("by hand") == ["begin", "end"]


# -- stop --------------------------------------------------------------------------------------------------


COMMANDS = (
    ("reload",), ("upgrade",), ("scale", "default=2"), ("pause",), ("resume",), ("restart",), ("dump",), ("crashes",),
    ("stop",),
)  # fmt: skip


def _nobody_is_there(daemon: Daemon) -> None:
    for words in COMMANDS:
        said = rrqd(daemon, *words)
        assert said.code == 1
        assert said.why == f"rrqd: no rrqd runs on state_dir {daemon.state}; is it the right --config?"


def test_stop_waits_until_jobs_and_daemon_have_ended_and_then_every_command_says_that_none_runs() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=0.5, job_id="last")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        said = rrqd(daemon, "stop")
        assert (said.code, said.out) == (0, "stopped\n")
        assert daemon.wait() == 0
        assert [one["did"] for one in daemon.lines("jobs")] == ["begin", "end"]
        assert not (daemon.state / "control.sock").exists()
        _nobody_is_there(daemon)


def test_stop_now_hands_back_at_once() -> None:
    with Daemon(stop_timeout_seconds=60.0) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=60.0, job_id="long")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        said = rrqd(daemon, "stop", "--now", "--json")
        assert (said.code, said.data) == (0, {"ok": True, "seconds": 60.0})
        assert daemon.wait() == 0


def test_stop_without_waiting_says_so_and_a_second_one_is_harder() -> None:
    with Daemon(stop_timeout_seconds=60.0) as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("wait", seconds=60.0, job_id="long")
        until(lambda: daemon.lines("jobs"), 5, "the job's begin")
        assert rrqd(daemon, "stop", "--no-wait").out == "stopping\n"
        daemon.expect_log("worker.draining")
        for words in (("reload",), ("scale", "default=3"), ("restart",)):
            said = rrqd(daemon, *words)
            assert (said.code, said.why) == (1, "rrqd: the daemon is stopping")
        assert status(daemon)["mode"] == "stop"
        assert rrqd(daemon, "stop").code == 0
        assert daemon.wait() == 0
        assert daemon.count_log("stop.harder", step="hand back") == 1


def test_where_the_daemon_was_killed_every_command_says_that_none_runs() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        family = daemon.children().values()
        daemon.signal(signal.SIGKILL)
        daemon.wait()
        until(lambda: not any(map(alive, family)), 20, "everybody to be gone")
        assert (daemon.state / "control.sock").exists()
        _nobody_is_there(daemon)


# -- whoever says anything ---------------------------------------------------------------------------------


def _raw(folder: Path, said: bytes) -> Any:
    with socket.socket(socket.AF_UNIX) as sock, reachable(folder / "control.sock") as address:
        sock.settimeout(10)
        sock.connect(address)
        sock.sendall(said)
        return json.loads(sock.makefile().readline())


def test_nothing_that_is_said_at_the_socket_hurts_the_master(daemon: Daemon) -> None:
    before = daemon.children()
    for question in (
        {}, {"command": None}, {"command": ["status"]}, {"command": "sing"},
        {"command": "scale", "pool": ["default"], "processes": 2}, {"command": "scale", "pool": "default"},
        {"command": "scale", "pool": "default", "processes": True},
        {"command": "scale", "pool": "default", "processes": "3"},
        {"command": "pause", "pool": {}, "event": "x", "level": "y", "self": 1},
        {"command": "restart", "pool": "default", "slot": "0"}, {"command": "resume", "pool": 7},
    ):  # fmt: skip
        answer = ask(daemon.state, question)
        assert answer["ok"] is False, question
        assert answer["error"].count("\n") == 0
    for said in (b"[" * 60_000 + b"\n", b"\n", b'"x"\n', b"\xff\xfe\n", b"{" * 9 + b"\n"):
        assert _raw(daemon.state, said)["ok"] is False
    assert daemon.count_log("control.broken") == 0
    assert daemon.children() == before


def test_clients_that_say_nothing_keep_nobody_else_from_asking_for_long(daemon: Daemon) -> None:
    with reachable(daemon.state / "control.sock") as address:
        idle = [socket.socket(socket.AF_UNIX) for _ in range(40)]
        for one in idle:
            one.connect(address)
    answers: list[Any] = []
    asking = threading.Thread(target=lambda: answers.append(ask(daemon.state, {"command": "status"}, 30.0)))
    asking.start()
    asking.join()
    assert answers[0]["ok"]
    for one in idle:
        one.close()


# -- the page ----------------------------------------------------------------------------------------------


def keys_on_page(name: str) -> list[str]:
    """The keys that docs/cli.md promises for a command's JSON."""
    rows = (ROOT / "docs" / "cli.md").read_text().partition("## What `--json` prints")[2].splitlines()
    line = next(line for line in rows if line.startswith("| ") and f"`{name}`" in line.split("|")[1])
    return re.findall(r"`([^`]+)`", line.split("|")[2])


def test_what_json_prints_has_the_keys_of_the_page() -> None:
    with Daemon(pools={"default": {"processes": 1}}) as daemon:
        daemon.expect_log("rrqd.ready")
        for words in (["reload"], ["pause"], ["resume"], ["restart"], ["scale", "default=1"], ["dump"], ["stop"]):
            data = rrqd(daemon, *words, "--json").data
            one = data[0] if isinstance(data, list) else data
            promised = keys_on_page(words[0])
            if words == ["dump"]:
                assert {"child", "pid"} <= set(one)
            else:
                assert list(one) == promised, words
        assert daemon.wait() == 0
