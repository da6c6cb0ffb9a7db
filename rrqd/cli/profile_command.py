"""``rrqd profile [POOL/]SLOT|JOB``: where a worker's time goes, or a job's; a flame graph and a list.

py-spy looks from outside where it is installed and allowed to; else, and for a single job, a thread of the worker
looks, reached through its debugger.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import click

from rrqd import flame
from rrqd.cli.console_command import Place, attach, choose, enter, master_of, workers_of
from rrqd.cli.daemon_line import state_dir_of
from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, table
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.exc import RRQError
from rrqd.job import JobStatus
from rrqd.runtime.debugger import possible_paths

_SLOT = re.compile(r"(?:[\w-]+/)?\d+")
PATIENCE_SECONDS = 30.0
"""For py-spy, beyond the time it was given."""


class Profile(NamedTuple):
    """``by``: who looked. ``looks`` are how often it did; a stack may be there in none of them, or in several."""

    by: str
    looks: int
    seconds: float
    stacks: Counter[tuple[str, ...]]


@click.command("profile")
@click.argument("target", metavar="[POOL/]SLOT|JOB")
@click.option("--seconds", type=click.FloatRange(0.1, 3600), default=10.0, help="For how long (10).")
@click.option("--rate", type=click.IntRange(1, 1000), default=100, help="How often a second (100).")
@click.option("--output", metavar="PREFIX", help="Write PREFIX.svg and PREFIX.txt; left out: rrqd-profile-TARGET.")
@click.option("--by", type=click.Choice(("auto", "py-spy", "thread")), default="auto", help="Who looks (auto).")
@click.option("--idle", is_flag=True, help="Of a worker: threads that wait, too.")
@click.option("--top", type=click.IntRange(1), default=15, help="Lines of the list (15).")
@dsn_option
@config_option
@json_option
@click.pass_obj
def profile(
    invocation: Invocation, target: str, seconds: float, rate: int, output: str | None, by: str, idle: bool, top: int,
    dsn: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Look for some seconds where a worker of this machine spends its time, or a job that runs here, waiting included.

    Writes a flame graph (SVG) and the collapsed stacks, and prints the functions that took most. Nothing is stopped.
    """
    state_dir = state_dir_of(invocation)
    found = workers_of(master_of(state_dir))
    places, job_id = [choose(found, target)] if _SLOT.fullmatch(target) else [], ""
    if not places:
        places, job_id = run(_workers_of_job(invocation, dsn, found, target)), target
    if job_id and by == "py-spy":
        raise click.BadParameter("py-spy knows no jobs; leave --by out, or name a worker", param_hint="--by")
    made = _by_py_spy(places[0], seconds, rate, idle, must=by == "py-spy") if by != "thread" and not job_id else None
    one = places[0]
    while made is None:
        one = places.pop(0)
        made = _by_thread(one, state_dir, job_id, seconds, rate, idle, is_last=not places)
    files = _write(output or "rrqd-profile-" + re.sub(r"[^\w.-]", "-", target), made, target, one)
    _show(made, one, job_id, files, top, as_json)
    if not made.stacks:
        complain("nothing has computed meanwhile; --idle shows where threads wait")
    return 0


async def _workers_of_job(invocation: Invocation, dsn: str | None, found: list[Place], job_id: str) -> list[Place]:
    """Those here that may be running it: its slot's, of every generation. Raises RRQError when there is none."""
    async with open_store(invocation, dsn) as store:
        job = await store.get(job_id)
    if job is None:
        raise RRQError(f"there is no worker and no job {job_id}; rrqd debug lists the workers")
    if job.status is not JobStatus.ACTIVE:
        raise RRQError(f"job {job_id} does not run now: it is {job.status.value}")
    worker_id = job.fields.get("worker_id", "")
    places = [one for one in found if re.search(rf"_{re.escape(one.pool)}\.{one.slot}_\w+$", worker_id)]
    if not places:
        raise RRQError(f"job {job_id} runs with worker {worker_id}, which is none of this machine's")
    return sorted(places, key=lambda one: -one.generation)


def _by_py_spy(one: Place, seconds: float, rate: int, idle: bool, must: bool) -> Profile | None:
    """None when it is not there, or may not look. Raises RRQError instead if it ``must``."""
    program = shutil.which("py-spy")
    if program is None:
        if must:
            raise RRQError("py-spy is not installed: pip install py-spy, or leave --by out")
        return None
    with tempfile.NamedTemporaryFile(suffix=".txt") as file:
        words = [program, "record", "--pid", str(one.pid), "--duration", str(max(1, round(seconds))), "--function"]
        words += ["--rate", str(rate), "--format", "raw", "--output", file.name, *(["--idle"] if idle else [])]
        try:
            done = subprocess.run(words, capture_output=True, timeout=seconds + PATIENCE_SECONDS, check=False)
            stacks = flame.read_collapsed(Path(file.name).read_text(errors="replace")) if not done.returncode else None
            why = (done.stderr.decode(errors="replace").strip() or "no word of why").splitlines()[-1]
        except (subprocess.TimeoutExpired, ValueError, OSError) as fault:
            stacks, why = None, str(fault)
    if stacks is not None:
        return Profile("py-spy", round(seconds * rate), seconds, stacks)
    if must:
        raise RRQError(f"py-spy could not look into worker {one} (pid {one.pid}): {why}")
    return None


def _by_thread(
    one: Place, state_dir: Path, job_id: str, seconds: float, rate: int, idle: bool, is_last: bool
) -> Profile | None:
    """None when another generation's worker may have the job. Raises RRQError for what the worker can't do."""
    with attach(one, lambda: possible_paths(state_dir, one.pool, one.slot)) as link:
        _greeting, _prompt, talk = enter(link, one)
        link.sendall(f"profile({seconds!r}, {job_id!r}, rate={rate}, idle={idle}, raw=True)\n".encode())
        said = ""
        for is_turn, text in talk:
            if is_turn:
                break
            said += text
        else:
            raise RRQError(f"worker {one} (pid {one.pid}) has left")
    head, _, lines = said.partition("\n")
    try:
        facts = json.loads(head)
        return Profile("a thread of the worker", facts["looks"], facts["seconds"], flame.read_collapsed(lines))
    except (ValueError, KeyError, TypeError):
        if is_last:
            why = said.strip().rpartition("\n")[2].removeprefix("LookupError: ")
            raise RRQError(f"worker {one} (pid {one.pid}): {why}") from None
        return None


def _write(prefix: str, made: Profile, target: str, one: Place) -> list[str]:
    what = f"worker {one}" if _SLOT.fullmatch(target) else f"job {target}"
    title = f"rrqd: {what} (pid {one.pid}), {made.seconds:.1f} s, {sum(made.stacks.values())} stacks by {made.by}"
    files = [f"{prefix}.svg", f"{prefix}.txt"]
    try:
        Path(files[0]).write_text(flame.svg(made.stacks, title))
        Path(files[1]).write_text(flame.collapsed(made.stacks))
    except OSError as fault:
        raise RRQError(f"{fault.filename} can't be written: {fault.strerror}; say another --output") from None
    return files


def _show(made: Profile, one: Place, job_id: str, files: list[str], top: int, as_json: bool) -> None:
    total = sum(made.stacks.values())
    shares = flame.top(made.stacks, top)
    data: dict[str, Any] = {
        "slot": str(one), "generation": one.generation, "pid": one.pid, "job_id": job_id or None, "by": made.by,
        "seconds": made.seconds, "looks": made.looks, "stacks": total, "files": files,
        "top": [{"function": share.label, "own": share.own, "total": share.total} for share in shares],
    }  # fmt: skip

    def human() -> None:
        click.echo(f"{total} stacks in {made.seconds:.1f} s, by {made.by}: {' and '.join(files)}")
        rows = [(f"{100 * share.own / total:.1f}", f"{100 * share.total / total:.1f}", share.label) for share in shares]
        table(("own %", "total %", "function"), rows)

    emit(data, as_json, human)
