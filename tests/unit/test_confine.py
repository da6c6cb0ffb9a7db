"""What a pool's settings mean for a worker, and what the kernel says to it. The kernel is asked in a child."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rrqd.config.settings import PoolSettings
from rrqd.exc import ConfigError
from rrqd.supervisor import landlock
from rrqd.supervisor.confine import Confinement, confine, plan, soft_and_hard

NOBODY = 65534
UNLIMITED = resource.RLIM_INFINITY
CONFIG_FOLDER = Path("/srv/app")
HOME = Path("/state/sandboxes/w")


def wanted(slot: int = 0, usable: tuple[int, ...] = (0, 1), **settings: Any) -> Confinement:
    """What a worker of a pool with these settings is held to."""
    pool = PoolSettings(handlers="jobs:registry", **{"oom_score_adj": 0, **settings})
    return plan("mail", pool, slot, usable, HOME, CONFIG_FOLDER)


# -- what is wanted ----------------------------------------------------------------------------------------


def test_workers_are_spread_over_the_processors_of_the_daemon_in_turn() -> None:
    processors = [wanted(slot, (7, 2, 4), cpus="spread").cpus for slot in range(5)]

    assert processors == [{2}, {4}, {7}, {2}, {4}]


def test_processors_are_those_named_or_those_of_the_daemon() -> None:
    assert wanted(cpus="0-1,5").cpus == {0, 1, 5}
    assert wanted().cpus is None


def test_paths_to_write_at_are_relative_to_the_file() -> None:
    assert wanted(landlock=True, writable=["out", "/var/spool/x"]).writable == (
        CONFIG_FOLDER / "out",
        Path("/var/spool/x"),
    )


def test_a_worker_under_landlock_has_a_tmpdir_of_its_own_or_the_one_of_its_pool() -> None:
    assert wanted(landlock=True).temporary == HOME / "tmp"
    named = wanted(landlock=True, environment={"TMPDIR": "/scratch"})
    assert (named.temporary, named.writable) == (None, (Path("/scratch"),))


def test_without_landlock_nothing_is_said_about_writing() -> None:
    free = wanted(writable=["out"])
    assert (free.writable, free.temporary) == (None, None)


def test_a_hard_limit_is_lowered_with_the_soft_one() -> None:
    assert soft_and_hard("nofile", 256, UNLIMITED) == (256, 256)
    assert soft_and_hard("core", UNLIMITED, 0) == (UNLIMITED, UNLIMITED)


def test_between_the_limits_of_processor_time_there_is_a_second_when_there_is_room() -> None:
    assert soft_and_hard("cpu", 60, UNLIMITED) == (60, 61)
    assert soft_and_hard("cpu", 60, 61) == (60, 61)
    assert soft_and_hard("cpu", 60, 60) == (60, 60)
    assert soft_and_hard("cpu", UNLIMITED, UNLIMITED) == (UNLIMITED, UNLIMITED)


def test_no_kernel_is_asked_for_rights_that_it_does_not_know() -> None:
    assert landlock.rights(1) & (landlock.REFER | landlock.TRUNCATE) == 0
    assert landlock.rights(2) ^ landlock.rights(1) == landlock.REFER
    assert landlock.rights(3) ^ landlock.rights(2) == landlock.TRUNCATE
    assert landlock.rights(99) == landlock.rights(3)


def test_reading_and_running_are_never_taken_away() -> None:
    execute, read_file, read_folder = 1 << 0, 1 << 2, 1 << 3
    assert landlock.rights(99) & (execute | read_file | read_folder) == 0


def test_a_rule_about_a_file_speaks_of_files_only() -> None:
    assert landlock.rights_below(3, is_folder=False) == landlock.WRITE_FILE | landlock.TRUNCATE
    assert landlock.rights_below(1, is_folder=False) == landlock.WRITE_FILE
    assert landlock.rights_below(3, is_folder=True) == landlock.rights(3)


# -- what the kernel says ----------------------------------------------------------------------------------


def in_child(do: Callable[[], Any], user: int | None = None) -> Any:
    """What `do` answers in a forked process, which may be another user's. A ConfigError is raised here again."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            if user is not None and os.geteuid() == 0:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
                ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # its own /proc/self is its own, as after an exec
            said = {"answer": do()}
        except ConfigError as error:
            said = {"refused": str(error)}
        except BaseException as error:
            said = {"broken": repr(error)}
        os.write(writer, json.dumps(said).encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as answers:
        said = json.loads(answers.read())
    os.waitpid(pid, 0)
    if "refused" in said:
        raise ConfigError(said["refused"])
    assert "broken" not in said, said
    return said["answer"]


def held_to(confinement: Confinement, look: Callable[[], Any]) -> Callable[[], Any]:
    def do() -> Any:
        confine(confinement)
        return look()

    return do


def oom_score_adj() -> int:
    return int(Path("/proc/self/oom_score_adj").read_text())


def test_niceness_is_added_to_the_daemons() -> None:
    before = os.nice(0)
    assert in_child(held_to(wanted(nice=5), lambda: os.nice(0))) == min(19, before + 5)


def test_the_umask_is_set() -> None:
    assert in_child(held_to(wanted(umask="027"), lambda: os.umask(0))) == 0o027


def test_limits_are_set() -> None:
    limits = {"nofile": 200, "core": 0, "cpu": 60}

    def look() -> list[tuple[int, int]]:
        return [resource.getrlimit(one) for one in (resource.RLIMIT_NOFILE, resource.RLIMIT_CORE, resource.RLIMIT_CPU)]

    assert in_child(held_to(wanted(limits=limits), look)) == [[200, 200], [0, 0], [60, 61]]


def test_a_worker_is_given_the_processor_of_its_slot() -> None:
    usable = sorted(os.sched_getaffinity(0))
    confinement = wanted(1, tuple(usable), cpus="spread")

    assert in_child(held_to(confinement, lambda: sorted(os.sched_getaffinity(0)))) == [usable[1 % len(usable)]]


def test_a_worker_is_killed_rather_than_others_and_never_less_so_than_it_was_born() -> None:
    def twice() -> list[int]:
        confine(wanted(oom_score_adj=700))
        first = oom_score_adj()
        confine(wanted(oom_score_adj=10))
        return [first, oom_score_adj()]

    assert in_child(twice, NOBODY) == [700, 700]


def test_privileges_can_be_given_up_for_good() -> None:
    def look() -> bool:
        return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()

    assert in_child(held_to(wanted(no_new_privs=True), look))
    assert not in_child(held_to(wanted(), look))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"nice": -5}, r"nice = -5: .*needs root or CAP_SYS_NICE"),
        ({"limits": {"nofile": 1 << 30}}, r"limits\.nofile = 1073741824: .*hard limit is \d+"),
        ({"limits": {"memlock": -1}}, r"limits\.memlock = -1: .*hard limit is 65536"),
        ({"limits": {"nofile": 3}}, r"limits\.nofile = 3: a worker itself needs \d+"),
        ({"limits": {"stack": 1 << 70}}, r"limits\.stack"),
        ({"cpus": "0,4095"}, r'cpus = "0, 4095": there is no processor 4095 for it; the daemon runs on 0'),
        ({"cpus": "4094-4095"}, r"there is no processor 4094, 4095 for it"),
        ({"umask": "700"}, r'umask = "700": the worker could not use'),
        ({"landlock": True}, r"landlock: /nowhere can't be made: "),
    ],
)
def test_what_can_not_be_had_is_said_in_one_line(settings: dict[str, Any], words: str) -> None:
    confinement = wanted(**settings)
    if confinement.writable is not None:
        pool = PoolSettings(handlers="jobs:registry", oom_score_adj=0, **settings)
        confinement = plan("mail", pool, 0, (0,), Path("/nowhere/w"), CONFIG_FOLDER)

    def as_a_small_user() -> None:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (65_536, 65_536))
        confine(confinement)

    with pytest.raises(ConfigError, match=words) as refusal:
        in_child(as_a_small_user, NOBODY)
    assert str(refusal.value).startswith("[rrqd.pools.mail] ")
    assert "\n" not in str(refusal.value)


# -- where it may write ------------------------------------------------------------------------------------


def has_landlock() -> bool:
    try:
        return landlock.abi() > 0
    except OSError:
        return False


needs_landlock = pytest.mark.skipif(not has_landlock(), reason="this kernel has no Landlock")


@pytest.fixture
def place() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rrqd-test-confine-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def below(place: Path, *writable: str, **settings: Any) -> Confinement:
    """A worker that may write in its home and at these paths below the place."""
    pool = PoolSettings(handlers="jobs:registry", oom_score_adj=0, landlock=True, writable=list(writable), **settings)
    return plan("mail", pool, 0, (0,), place / "sandboxes" / "w", place)


def can(do: Callable[[], Any]) -> str:
    """`yes`, or the kernel's no."""
    try:
        do()
    except OSError as error:
        return type(error).__name__
    return "yes"


def program(*words: str) -> None:
    """Run it; its failure is an OSError too."""
    if subprocess.run(words, stderr=subprocess.DEVNULL).returncode:
        raise OSError(f"{words[0]} failed")


@needs_landlock
@pytest.mark.parametrize("user", [None, NOBODY])
def test_writing_works_at_home_and_at_named_paths_and_nowhere_else(place: Path, user: int | None) -> None:
    for name in ("out", "other"):
        (place / name).mkdir()
        (place / name).chmod(0o777)
    for name in ("a file", "another file"):
        (place / name).write_text("as it was")
        (place / name).chmod(0o666)
    confinement = below(place, "out", "a file")

    def look() -> dict[str, str]:
        home = confinement.home
        (home / "7").mkdir()
        (home / "trash").mkdir()
        return {
            "home": can(lambda: (home / "7" / "x").write_text("x")),
            "rename within": can(lambda: os.rename(home / "7", home / "trash" / "7")),
            "named folder": can(lambda: (place / "out" / "x").write_text("x")),
            "named file": can(lambda: (place / "a file").write_text("x")),
            "null": can(lambda: Path("/dev/null").write_text("x")),
            "read": can(lambda: (place / "another file").read_text()),
            "run": can(lambda: program("true")),
            "other file": can(lambda: (place / "another file").write_text("x")),
            "truncate": can(lambda: os.truncate(place / "another file", 0)),
            "new": can(lambda: (place / "other" / "x").write_text("x")),
            "mkdir": can(lambda: (place / "other" / "x").mkdir()),
            "symlink": can(lambda: (place / "other" / "x").symlink_to("y")),
            "unlink": can(lambda: (place / "another file").unlink()),
            "rename out": can(lambda: os.rename(home / "trash" / "7", place / "other" / "7")),
            "neighbour": can(lambda: (place / "sandboxes" / "v").mkdir()),
            "program": can(lambda: program("touch", str(place / "other" / "x"))),
        }

    answers = in_child(held_to(confinement, look), user)
    allowed = {name for name, answer in answers.items() if answer == "yes"}
    assert allowed == {"home", "rename within", "named folder", "named file", "null", "read", "run"}
    assert (place / "another file").read_text() == "as it was"
    assert list((place / "other").iterdir()) == []


@needs_landlock
def test_what_is_open_already_and_connections_go_on(place: Path) -> None:
    confinement = below(place)
    kept = (place / "kept").open("w")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(place / "sock"))
    listener.listen()

    def look() -> list[Any]:
        kept.write("still")
        kept.flush()
        with socket.socket(socket.AF_UNIX) as link:
            connected = can(lambda: link.connect(str(place / "sock")))
        return [connected, can(lambda: os.close(os.memfd_create("x")))]

    assert in_child(held_to(confinement, look)) == ["yes", "yes"]
    assert (place / "kept").read_text() == "still"
    kept.close()
    listener.close()


@needs_landlock
def test_temporary_files_go_to_the_workers_own_folder(place: Path) -> None:
    confinement = below(place)
    tempfile.gettempdir()  # as an import in the mold would have asked

    def look() -> list[str]:
        with tempfile.NamedTemporaryFile() as file:
            return [os.environ["TMPDIR"], os.path.dirname(file.name)]

    assert in_child(held_to(confinement, look)) == [str(confinement.temporary)] * 2


@needs_landlock
def test_landlock_gives_up_privileges_too(place: Path) -> None:
    def look() -> bool:
        return "NoNewPrivs:\t1" in Path("/proc/self/status").read_text()

    assert in_child(held_to(below(place), look))


@needs_landlock
def test_folders_of_a_worker_are_for_this_user_only_whatever_the_umask(place: Path) -> None:
    confinement = below(place, umask="000")
    in_child(held_to(confinement, lambda: None))

    assert [oct(one.stat().st_mode & 0o777) for one in (confinement.home.parent, confinement.home)] == ["0o700"] * 2


@needs_landlock
def test_a_path_to_write_at_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"writable: .*/missing: No such file"):
        in_child(held_to(below(place, "missing"), lambda: None))


@needs_landlock
def test_a_tmpdir_of_the_pool_that_is_not_there_is_refused(place: Path) -> None:
    with pytest.raises(ConfigError, match=r"writable: /nowhere/at/all: No such file"):
        in_child(held_to(below(place, environment={"TMPDIR": "/nowhere/at/all"}), lambda: None))


@pytest.mark.skipif(sys.byteorder != "little", reason="the filter is written for little-endian machines")
def test_a_kernel_without_landlock_is_refused(place: Path) -> None:
    def do() -> None:
        deny_system_call(444, errno=38)
        confine(below(place))

    words = r"landlock = true: the kernel has no Landlock.*Function not implemented.*5\.13"
    with pytest.raises(ConfigError, match=words):
        in_child(do)


def deny_system_call(number: int, errno: int) -> None:
    """From now on the kernel answers this call as an older one would: a seccomp filter of four instructions."""
    load, equal, answer = 0x20, 0x15, 0x06
    refuse, allow = 0x00050000 | errno, 0x7FFF0000
    lines = ((load, 0, 0, 0), (equal, 0, 1, number), (answer, 0, 0, refuse), (answer, 0, 0, allow))
    instructions = b"".join(struct.pack("HBBI", *line) for line in lines)
    buffer = ctypes.create_string_buffer(instructions, len(instructions))
    head = ctypes.create_string_buffer(struct.pack("HxxxxxxQ", 4, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    landlock.no_new_privileges()
    assert libc.prctl(22, ctypes.c_ulong(2), head, ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0
