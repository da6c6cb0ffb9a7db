"""Memory of a process, and of a control group: a folder that looks like one is as good as one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rrqd.supervisor.memory import KILLS_SECONDS, VERSION_1, GroupMemory, Kills, private_bytes

MIB = 1_048_576


class Group:
    """The control groups of a machine, and a process in one of them."""

    def __init__(self, root: Path) -> None:
        self.root = root / "cgroup"
        self.own = root / "own"
        self.root.mkdir()

    def put(self, path: str, **files: str) -> None:
        folder = self.root / path
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / f"memory.{name}").write_text(text)

    def mine(self, path: str) -> GroupMemory | None:
        self.own.write_text(f"12:devices:/old\n0::/{path}\n")
        return GroupMemory.mine(self.root, self.own)


@pytest.fixture
def group(tmp_path: Path) -> Group:
    return Group(tmp_path)


def test_this_process_has_memory_of_its_own_and_one_that_is_gone_has_none() -> None:
    before = private_bytes(os.getpid())
    assert before > MIB
    kept = b"x" * (64 * MIB)
    assert private_bytes(os.getpid()) > before + 60 * MIB
    del kept
    assert private_bytes(2**22 + 1) == 0


def test_the_memory_of_a_runner_counts_with_its_workers() -> None:
    program = "block = bytearray(b'x') * (64 << 20); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        alone, together = private_bytes(os.getpid()), private_bytes(os.getpid(), with_children=True)
        child.communicate(b"\n")
    assert together - alone > 60 * MIB


def test_the_nearest_group_with_a_limit_counts(group: Group) -> None:
    group.put("machine.slice", max=f"{900 * MIB}\n")
    group.put("machine.slice/box", max=f"{100 * MIB}\n")
    group.put("machine.slice/box/inner", max="max\n")
    found = group.mine("machine.slice/box/inner")
    assert found is not None
    assert found.folder == group.root / "machine.slice" / "box"
    assert found.limit_bytes() == 100 * MIB


def test_the_limit_of_a_container_stands_at_its_root(group: Group) -> None:
    group.put("", max=f"{512 * MIB}\n")
    found = group.mine("")
    assert found is not None
    assert found.folder == group.root


def test_without_a_limit_anywhere_there_is_no_group_to_watch(group: Group) -> None:
    group.put("a", max="max\n")
    assert group.mine("a") is None
    assert group.mine("a/gone") is None


def test_a_group_of_version_1_is_as_good(group: Group) -> None:
    """Beside a version 2 without memory, as many a machine has it."""
    box = "memory/docker/box"
    figures = {"limit_in_bytes": f"{100 * MIB}\n", "usage_in_bytes": f"{80 * MIB}\n", "oom_control": "oom_kill 0\n"}
    group.put("memory", limit_in_bytes="9223372036854771712\n", oom_control="under_oom 0\noom_kill 2\n")
    group.put(box, stat=f"inactive_file 1\ntotal_inactive_file {30 * MIB}\n", **figures)
    group.put(f"{box}/inner", limit_in_bytes="9223372036854771712\n", oom_control="under_oom 0\noom_kill 4\n")
    group.own.write_text("4:memory:/docker/box/inner\n1:cpu,cpuacct:/\n0::/\n")
    found = GroupMemory.mine(group.root, group.own)
    assert found is not None
    assert found.folder == group.root / box
    assert found.used_share() == pytest.approx(0.5)
    own = GroupMemory.counting(group.root, group.own)
    assert own is not None
    assert own.kills() == 4  # version 1 counts in the group of the killed one alone
    # A container's own path is the host's, and nothing of it is to be seen; its root is its own group.
    group.own.write_text("4:memory:/kubepods/pod7\n")
    group.put("memory", limit_in_bytes=f"{MIB}\n")
    assert [GroupMemory.mine(group.root, group.own), GroupMemory.counting(group.root, group.own)] == [
        GroupMemory(group.root / "memory", VERSION_1)
    ] * 2


def test_kills_are_counted_in_the_nearest_group_that_counts_with_or_without_a_limit(group: Group) -> None:
    group.put("unit", max="max\n", events="oom_kill 5\n")
    group.put("unit/supervisor")
    group.own.write_text("0::/unit/supervisor\n")
    found = GroupMemory.counting(group.root, group.own)
    assert found is not None
    assert found.kills() == 5


def test_without_control_groups_there_is_none(group: Group) -> None:
    group.put("a", max=f"{MIB}\n")
    group.own.write_text("4:devices:/a\n")
    for find in (GroupMemory.mine, GroupMemory.counting):
        assert find(group.root, group.own) is None
        assert find(group.root, group.own.with_name("nowhere")) is None


def test_a_group_outside_of_what_we_see_is_none_of_ours(group: Group) -> None:
    (group.root.parent / "memory.max").write_text(f"{MIB}\n")
    assert group.mine("../..") is None
    assert group.mine("../elsewhere") is None


def test_what_the_kernel_can_drop_at_once_is_not_in_use(group: Group) -> None:
    stat = f"anon 1\nfile 5\ninactive_file {30 * MIB}\nactive_file 7\n"
    group.put("a", max=f"{100 * MIB}\n", current=f"{80 * MIB}\n", stat=stat)
    found = group.mine("a")
    assert found is not None
    assert found.used_share() == pytest.approx(0.5)
    group.put("a", current=f"{20 * MIB}\n")
    assert found.used_share() == 0.0


def test_kills_are_counted_and_files_that_are_not_there_are_none(group: Group) -> None:
    group.put("a", max=f"{MIB}\n", events="low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 1\n")
    found = group.mine("a")
    assert found is not None
    assert found.kills() == 3
    assert GroupMemory(group.root / "gone").kills() == 0
    assert GroupMemory(group.root / "gone").used_share() == 0.0


def test_a_kill_by_the_kernel_explains_one_death_that_is_heard_of_soon(group: Group) -> None:
    def count(kills: int) -> None:
        group.put("a", events=f"oom_kill {kills}\n")

    group.put("a", max=f"{MIB}\n")
    count(3)
    kills = Kills(group.mine("a"))
    kills.turn(100.0)
    assert not kills.explain_one()  # those were before us
    count(5)
    assert [kills.explain_one() for _ in range(3)] == [True, True, False]
    count(6)
    kills.turn(100.0 + KILLS_SECONDS)  # counted before the death is heard of
    assert [kills.explain_one() for _ in range(2)] == [True, False]
    count(7)  # a program that a job had started
    for turn in range(2, 5):
        kills.turn(100.0 + turn * KILLS_SECONDS)
    assert not kills.explain_one()
    assert not Kills(None).explain_one()
