"""A control group with a limit, as a container or a unit has one: the daemon and all its children are in it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest

from rrqd.supervisor.memory import CGROUP_ROOT, VERSION_1, VERSION_2, GroupMemory
from tests.support.app import App, app, whole
from tests.support.wait import until

MIB = 1_048_576
LIMIT_BYTES = 256 * MIB


def _ours() -> GroupMemory | None:
    """The group of this process in which others with a limit can be made."""
    own = GroupMemory.counting()
    if own is None:  # the root of version 2 counts nothing
        own = GroupMemory(CGROUP_ROOT, VERSION_2)
    if own.files == VERSION_2:
        control = own.folder / "cgroup.subtree_control"
        if not control.exists() or "memory" not in control.read_text().split():
            return None
    return own if os.access(own.folder / "cgroup.procs", os.W_OK) else None


@pytest.fixture
def group() -> Iterator[GroupMemory]:
    above = _ours()
    if above is None:
        pytest.skip("no control group for memory can be made here")
    group = GroupMemory(above.folder / f"rrqd-test-{secrets.token_hex(4)}", above.files)
    group.folder.mkdir()
    (group.folder / group.files.limit).write_text(str(LIMIT_BYTES))
    # With swap the kernel would swap instead of killing.
    swap = group.folder / ("memory.memsw.limit_in_bytes" if group.files == VERSION_1 else "memory.swap.max")
    if swap.exists():
        swap.write_text(str(LIMIT_BYTES) if group.files == VERSION_1 else "0")
    yield group
    until(lambda: not (group.folder / "cgroup.procs").read_text(), 10, "the group to be empty")
    group.folder.rmdir()


async def test_before_the_group_s_memory_is_out_the_largest_worker_goes_and_what_the_kernel_kills_is_told_apart(
    group: GroupMemory,
) -> None:
    with_pools = whole(processes=2, concurrency=1, memory_guard_share=0.7, max_stalls=1)
    with_pools.prefix = ("sh", "-c", f'echo $$ > {group.folder}/cgroup.procs && exec "$@"', "sh")
    with with_pools as daemon:
        async with app(daemon) as a:
            await the_guard(a)
            await the_kernel(a, group)
        assert daemon.stop() == 0


async def the_guard(a: App) -> None:
    [bystander] = await a.held(1, gate="bystander")
    gate = str(a.daemon.folder / "gate")
    large = await a.tell("keep", bytes=120 * MIB, gate=gate)
    short = a.daemon.expect_log("memory.short")
    worn = a.daemon.expect_log("worker.worn", why="memory is short")
    assert short["worker_id"] == worn["worker_id"] == (await a.job(large)).fields["worker_id"]
    a.let_go()
    assert (await a.end(large)).status == "COMPLETED"
    a.daemon.expect_log("worker.left", pid=worn["pid"], reason="planned")
    a.let_go("bystander")
    assert (await a.end(bystander)).status == "COMPLETED"
    assert set(a.starts().values()) == {1}
    assert a.daemon.count_log("crash.dossier") == 0


async def the_kernel(a: App, group: GroupMemory) -> None:
    """Faster than anybody looks."""
    mark = a.daemon.mark()
    [bystander] = await a.held(1, gate="another")
    burst = await a.tell("keep", bytes=4 * LIMIT_BYTES, gate=str(a.daemon.folder / "gate"))
    assert (await a.end(burst)).status == "FAILED"
    died = a.daemon.expect_log("worker.died", since=mark)
    assert (died["reason"], died["running"]) == ("oom", [burst])
    assert group.kills() == 1
    a.let_go("another")
    assert (await a.end(bystander)).status == "COMPLETED"
    assert a.starts()[bystander] == 1
