"""What the kernel lets a worker do: its place among the processes, its limits, and where it may write.

Rules of this file:

* `plan` says what a pool's settings mean for one worker and asks nobody. `confine` asks the kernel, one thing after
  the other, just after the fork: some of it holds only for the thread that asks and for those it starts.
* What can't be had is a ConfigError of one line that names the key. No worker runs with less than it was told to.
* The folders that Landlock is to leave open are made first; Landlock is last, since it forbids the rest of this file.
"""

from __future__ import annotations

import os
import resource
import sys
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from rrqd.config.shapes import cpu_numbers
from rrqd.exc import ConfigError
from rrqd.supervisor import landlock

if TYPE_CHECKING:
    from rrqd.config.pool_table import LimitName, PoolSettings

ALWAYS_WRITABLE = (Path("/dev/null"), Path("/dev/shm"))
"""What programs can't do without: the bin, and the memory that semaphores of multiprocessing lie in."""
SPARE_DESCRIPTORS = 32
"""Loop, connections and pipes of a worker need about ten; an import in a handler a few more."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Confinement:
    """All that one worker is held to."""

    pool: str
    cpus: frozenset[int] | None
    """None: those of the daemon."""
    nice: int
    oom_score_adj: int
    umask: int | None
    limits: tuple[tuple[LimitName, int], ...]
    no_new_privs: bool
    writable: tuple[Path, ...] | None
    """Where Landlock lets it write, as the operator named it; None: no Landlock."""
    home: Path
    """Holds its jobs' sandboxes."""
    temporary: Path | None
    """Its TMPDIR, to be made; None: it keeps the one it has."""

    def refuse(self, key: str, why: str) -> ConfigError:
        return ConfigError(f"[rrqd.pools.{self.pool}] {key}: {why}")


def plan(
    name: str, pool: PoolSettings, slot: int, usable: Collection[int], home: Path, config_folder: Path
) -> Confinement:
    """What the settings of the pool `name` mean for the worker in this slot, when the daemon may use these processors.

    A TMPDIR that the pool's environment names is writable; without one, a worker under Landlock gets its own.
    """
    writable, temporary = None, None
    if pool.landlock:
        writable = tuple(config_folder / Path(path).expanduser() for path in pool.writable)
        if "TMPDIR" in pool.environment:
            writable += (Path(pool.environment["TMPDIR"]),)
        else:
            temporary = home / "tmp"
    return Confinement(
        pool=name,
        cpus=_cpus(pool.cpus, slot, sorted(usable)),
        nice=pool.nice,
        oom_score_adj=pool.oom_score_adj,
        umask=None if pool.umask is None else int(pool.umask, 8),
        limits=tuple(sorted(pool.limits.items())),
        no_new_privs=pool.no_new_privs,
        writable=writable,
        home=home,
        temporary=temporary,
    )


def _cpus(wanted: str, slot: int, usable: list[int]) -> frozenset[int] | None:
    if wanted == "all":
        return None
    if wanted == "spread":
        return frozenset({usable[slot % len(usable)]})
    return frozenset(cpu_numbers(wanted))


def soft_and_hard(name: LimitName, value: int, hard_now: int) -> tuple[int, int]:
    """Both limits of setrlimit. The hard one is lowered too, or the job could take the soft one back.

    Of processor time there is a second between them: the first ends a worker by SIGXCPU, which tells why; at the
    second it would be KILL, which could be anybody's.
    """
    room = hard_now == resource.RLIM_INFINITY or hard_now > value
    return value, value + 1 if name == "cpu" and value != resource.RLIM_INFINITY and room else value


def confine(wanted: Confinement) -> None:
    """Hold this process to it. Raises ConfigError; what was done by then stays done, so the worker has to leave."""
    _use_cpus(wanted)
    _be_nice(wanted)
    _be_rather_killed(wanted.oom_score_adj)
    for name, value in wanted.limits:
        _limit(wanted, name, value)
    if wanted.writable is not None:
        _make_folders(wanted)
    if wanted.umask is not None:
        if wanted.umask & 0o700:
            raise wanted.refuse(f'umask = "{wanted.umask:03o}"', "the worker could not use the folders it makes itself")
        os.umask(wanted.umask)
    if wanted.no_new_privs:
        _gain_nothing(wanted)
    if wanted.writable is not None:
        _write_only_below(wanted, wanted.writable)


def _use_cpus(wanted: Confinement) -> None:
    """The kernel takes any set with one usable processor in it, and leaves the others out without a word."""
    if wanted.cpus is None:
        return
    usable = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, wanted.cpus)
        missing = wanted.cpus - os.sched_getaffinity(0)
    except (OSError, ValueError):
        missing = wanted.cpus - usable or wanted.cpus
    if missing:
        why = f"there is no processor {_numbers(missing)} for it; the daemon runs on {_numbers(usable)}"
        raise wanted.refuse(f'cpus = "{_numbers(wanted.cpus)}"', why)


def _numbers(cpus: Collection[int]) -> str:
    return ", ".join(map(str, sorted(cpus)))


def _be_nice(wanted: Confinement) -> None:
    if wanted.nice == 0:
        return
    try:
        os.nice(wanted.nice)
    except OSError as error:
        why = f"{error.strerror}; less than the daemon's niceness needs root or CAP_SYS_NICE"
        raise wanted.refuse(f"nice = {wanted.nice}", why) from error


def _be_rather_killed(score: int) -> None:
    """Never less than what was inherited, which whoever started the daemon has chosen.

    Raising it is free, so the only kernel that says no is one without it (some containers). A worker that the kernel
    may take last is no reason to have none.
    """
    file = Path("/proc/self/oom_score_adj")
    try:
        if score > int(file.read_text()):
            file.write_text(f"{score}\n")
    except (OSError, ValueError) as error:
        log.warning("worker.oom_score_adj", wanted=score, error=str(error))


def _limit(wanted: Confinement, name: LimitName, value: int) -> None:
    key = f"limits.{name} = {value}"
    which = getattr(resource, f"RLIMIT_{name.upper()}")
    _soft, hard = resource.getrlimit(which)
    if name == "nofile":
        least = len(os.listdir("/proc/self/fd")) + SPARE_DESCRIPTORS
        if value != resource.RLIM_INFINITY and value < least:
            raise wanted.refuse(key, f"a worker itself needs {least}")
    try:
        resource.setrlimit(which, soft_and_hard(name, value, hard))
    except (OSError, ValueError, OverflowError) as error:
        have = "unlimited" if hard == resource.RLIM_INFINITY else hard
        why = f"{error}; the daemon's own hard limit is {have}"
        raise wanted.refuse(key, why) from error


def _make_folders(wanted: Confinement) -> None:
    """For this user only, whatever the umask."""
    folders = [wanted.home.parent, wanted.home, *([wanted.temporary] if wanted.temporary else [])]
    try:
        for folder in folders:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise wanted.refuse("landlock", f"{error.filename} can't be made: {error.strerror}") from error


def _gain_nothing(wanted: Confinement) -> None:
    try:
        landlock.no_new_privileges()
    except OSError as error:
        raise wanted.refuse("no_new_privs = true", f"the kernel says no: {error.strerror}") from error


def _write_only_below(wanted: Confinement, named: tuple[Path, ...]) -> None:
    if wanted.temporary is not None:
        os.environ["TMPDIR"] = str(wanted.temporary)
        if (module := sys.modules.get("tempfile")) is not None:
            module.tempdir = None  # type: ignore[attr-defined]  # what an import has asked for before is stale now
    always = [path for path in ALWAYS_WRITABLE if path.exists()]
    try:
        abi = landlock.write_only_below([wanted.home, *named, *always])
    except OSError as error:
        if error.filename:
            raise wanted.refuse("writable", f"{error.filename}: {error.strerror}") from error
        why = f"the kernel has no Landlock, or has it switched off ({error.strerror}); it takes Linux 5.13 or newer"
        raise wanted.refuse("landlock = true", why) from error
    if abi < landlock.TRUNCATE_ABI:
        log.warning("landlock.partial", abi=abi, problem="before Linux 6.2 files can be cut short wherever they lie")
