"""What can happen to a daemon with jobs in flight, as a list; and proofs that are read out of the log: a roll costs no
capacity at any instant, a pause of the master kills nobody, a change touches only those whom it is about."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from rrqd.local_socket import ask
from rrqd.store import Store, StorePolicy
from tests.support.app import App, app, whole
from tests.support.daemon import Daemon, alive
from tests.support.moves import raw
from tests.support.server import Server
from tests.support.wait import until, until_async

GENTLE = {"TERM": signal.SIGTERM, "INT": signal.SIGINT}


# -- ends of the daemon with jobs in flight -----------------------------------------------------------------


async def _runs_to_the_end(a: App, ids: list[str], starts: int) -> None:
    """All end well, were begun so often, and have no attempt or stall on their record."""
    assert await a.ends(ids) == {"COMPLETED": len(ids)}
    assert set(a.starts().values()) == {starts}
    for job_id in ids:
        job = await a.job(job_id)
        assert (job.number("current_retries") or 0, job.number("rrqd_stalls")) == (0, None)


@pytest.mark.parametrize("name", GENTLE)
async def test_told_to_stop_it_lets_jobs_end_and_leaves_nobody(name: str, server: Server) -> None:
    with whole(embedded="never", rrq={"redis_dsn": server.dsn}) as daemon:
        async with app(daemon, server.dsn) as a:
            ids = await a.held(6)
            family = list(daemon.children().values())
            daemon.signal(GENTLE[name])
            daemon.expect_log("stop.begin")
            a.let_go()
            await _runs_to_the_end(a, ids, starts=1)
            assert daemon.wait() == 0
            assert not any(map(alive, family))


async def test_jobs_that_a_stop_cuts_short_go_back_uncharged_and_are_run_by_the_next() -> None:
    with whole(stop_timeout_seconds=20.0) as daemon:
        async with app(daemon) as a:
            for how in ("QUIT", "TERM three times", "TERM, and the jobs exceed the time"):
                a.ledger.unlink(missing_ok=True)
                a.close()
                ids = await a.held(6)
                mark = daemon.mark()
                daemon.signal(signal.SIGQUIT if how == "QUIT" else signal.SIGTERM)
                daemon.expect_log("stop.begin", since=mark)
                if "three" in how:
                    for step in ("hand back", "kill"):
                        daemon.signal(signal.SIGTERM)
                        daemon.expect_log("stop.harder", step=step, since=mark)
                assert daemon.wait() == 0, how
                a.let_go()
                daemon.rrqd["stop_timeout_seconds"] = 1.0 if "three" in how else 20.0  # of the next
                daemon.write_config()
                daemon.start()
                daemon.expect_log("rrqd.ready", since=mark)
                await _runs_to_the_end(a, ids, starts=2)
        assert daemon.stop() == 0


async def test_when_everybody_was_killed_the_next_finds_the_orphaned_jobs_at_its_start() -> None:
    with whole(processes=1, lease_seconds=1.5) as daemon:
        async with app(daemon) as a:
            ids = await a.held(4)
            family = daemon.children()
            daemon.signal(signal.SIGSTOP)  # or it would see them go
            for pid in family.values():
                os.kill(pid, signal.SIGKILL)
            daemon.signal(signal.SIGKILL)
            daemon.wait()
            a.let_go()
            mark = daemon.mark()
            daemon.start()
            daemon.expect_log("rrqd.ready", since=mark, seconds=30)
            assert await a.ends(ids) == {"COMPLETED": 4}
            assert set(a.starts().values()) == {2}
        assert daemon.stop() == 0


async def test_a_job_that_exits_or_ends_itself_again_and_again_is_buried_and_the_others_end_well() -> None:
    with whole(processes=2) as daemon:
        async with app(daemon) as a:
            exits = [await a.tell("exit", code=code) for code in (0, 3)]
            others = [await a.tell() for _ in range(10)]
            assert await a.ends(others, 40) == {"COMPLETED": 10}
            assert await a.ends(exits, 40) == {"FAILED": 2}
            for job_id in exits:
                assert "Poison" in ((await a.job(job_id)).last_error or "")
            until(lambda: len(daemon.workers()) == 2, 10, "both workers")
        assert daemon.stop() == 0


async def test_a_node_whose_registration_is_gone_registers_again_and_goes_on() -> None:
    with whole(lease_seconds=1.2) as daemon:
        async with app(daemon) as a:
            ids = await a.held(4)
            store = await Store.open(f"redis://127.0.0.1:{daemon.port}/0", StorePolicy(), client_name="rrqd:test")
            nodes = await raw(store, "ZRANGE", store.keys.nodes, 0, -1)
            assert len(nodes) == 1
            await raw(store, "DEL", store.keys.nodes)

            async def registered() -> bool:
                return bool(await raw(store, "ZRANGE", store.keys.nodes, 0, -1) == nodes)

            await until_async(registered, 20, "the node to be there again")
            a.let_go()
            assert await a.ends(ids, 40) == {"COMPLETED": 4}
            assert (await a.end(await a.tell())).status == "COMPLETED"
            assert await raw(store, "ZRANGE", store.keys.nodes, 0, -1) == nodes
            await store.close()
        assert daemon.stop() == 0


# -- proofs from the log ------------------------------------------------------------------------------------


def test_a_roll_never_costs_capacity_and_replaces_a_few_at_a_time_and_each_once() -> None:
    size, surge = 8, 2
    with Daemon(pools={"default": {"processes": size}}, log_level="debug") as daemon:
        daemon.expect_log("rrqd.ready")
        mark = daemon.mark()
        daemon.signal(signal.SIGHUP)
        until(lambda: daemon.count_log("worker.left", generation=1) == size, 30, "the roll")
        ready, starting, story = size, 0, dict[int, list[str]]()
        for one in daemon.log()[mark:]:
            match one["event"]:
                case "child.started" if str(one["child"]).startswith("worker"):
                    starting += 1
                case "worker.ready":
                    ready, starting = ready + 1, starting - 1
                case "worker.draining":
                    ready -= 1
                case "worker.left":
                    pass
                case _:
                    continue
            assert size <= ready <= size + surge
            assert 0 <= starting <= surge
            if one["event"] != "child.started":
                story.setdefault(one["slot"], []).append(f"{one['event']} g{one['generation']}")
        expected = ["worker.ready g2", "worker.draining g1", "worker.left g1"]
        assert story == dict.fromkeys(range(size), expected)
        assert daemon.stop() == 0


def test_a_pause_of_the_master_longer_than_every_limit_kills_nobody() -> None:
    with Daemon(hang_timeout_seconds=2.5, timeout_grace_seconds=0.5, boot_timeout_seconds=4.0) as daemon:
        daemon.expect_log("rrqd.ready")
        before = daemon.children()
        daemon.order("wait", slot="default.0", seconds=5.0, job_id="long")
        daemon.order("block", slot="default.1", seconds=4.0, job_id="blocks", timeout_seconds=2.0)
        until(lambda: len(daemon.lines("jobs")) == 2, 5, "both jobs to begin")
        daemon.signal(signal.SIGSTOP)
        stopped_at = time.monotonic()
        until(lambda: time.monotonic() - stopped_at > 4.5, 10, "a long pause")
        daemon.signal(signal.SIGCONT)
        daemon.expect_log("master.paused")
        until(lambda: sum(one["did"] == "end" for one in daemon.lines("jobs")) == 2, 10, "both jobs to end")
        assert daemon.children() == before
        assert daemon.count_log("child.killed") == 0
        assert daemon.stop() == 0


# -- what a reload of the settings alone touches ------------------------------------------------------------

CHANGES: list[tuple[str, dict[str, dict[str, Any]], dict[str, Any], set[str]]] = [
    ("nothing", {}, {}, set()),
    ("another queue", {"b": {"queues": ["b", "b2"]}}, {}, {"b"}),
    ("another concurrency", {"b": {"concurrency": 3}}, {}, {"b"}),
    ("another environment", {"b": {"environment": {"X": "1"}}}, {}, {"b"}),
    ("another folder", {"b": {"cwd": "."}}, {}, {"b"}),
    ("another preload", {"b": {"preload": ["decimal"]}}, {}, {"b"}),
    ("a pool more", {"c": {"processes": 1}}, {}, {"c"}),
    ("a pool less", {"c": {}}, {}, {"c"}),
    ("what all share", {}, {"hang_timeout_seconds": 20.0}, {"a", "b"}),
]


def test_pools_that_a_change_does_not_touch_keep_their_processes() -> None:
    pools: dict[str, dict[str, Any]] = {"a": {"processes": 2}, "b": {"processes": 1}}
    with Daemon(pools=pools, hang_timeout_seconds=30.0) as daemon:
        daemon.expect_log("rrqd.ready")
        for what, of_pools, of_all, touched in CHANGES:
            before = _pids(daemon)
            for name, change in of_pools.items():
                pools[name] = {**pools.get(name, {}), **change}
                if not change:
                    del pools[name]
            daemon.pools, daemon.rrqd = pools, {**daemon.rrqd, **of_all}
            daemon.write_config()
            assert ask(daemon.state, {"command": "reload", "config_only": True}, 30)["ok"], what
            until(lambda: _settled(daemon, pools), 20, f"{what}: the new workers")
            after = _pids(daemon)
            changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
            assert changed == touched, what
        assert daemon.stop() == 0


def _pids(daemon: Daemon) -> dict[str, set[int]]:
    """Pool -> its workers."""
    found: dict[str, set[int]] = {}
    for title, pid in daemon.workers().items():
        found.setdefault(title.split()[1].partition("/")[0], set()).add(pid)
    return found


def _settled(daemon: Daemon, pools: dict[str, dict[str, Any]]) -> bool:
    """As many workers as there should be, all ready and of their pool's newest generation."""
    shown = ask(daemon.state, {"command": "status"})["status"]
    slots = {name: [slot["phase"] for slot in pool["slots"]] for name, pool in shown["pools"].items()}
    wanted = {name: ["ready"] * pool["processes"] for name, pool in pools.items()}
    return slots == wanted and {name: len(pids) for name, pids in _pids(daemon).items()} == {
        name: pool["processes"] for name, pool in pools.items()
    }
