"""Does what a mold does before its first fork, in a process that may be thrown away, so that a module that hangs, exits
or crashes harms nobody.

`probe_mold` is called by `rrqd config check`; it runs `python -m rrqd.supervisor.probe` with a mold's environment,
which imports and audits as the mold would, and writes one JSON line to a pipe of its own: what the application prints
while it is imported can't be mistaken for the answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rrqd.config.loader import Loaded
from rrqd.supervisor.births import share_processors
from rrqd.supervisor.child import ROLES
from rrqd.supervisor.plans import MoldSpec, Plan, plan_of
from rrqd.supervisor.process import memory_file

_LAST_WORDS = 400


@dataclass(frozen=True, slots=True)
class MoldReport:
    """What preparing a mold gave: the functions found and what it cost, or the problem."""

    mold: str
    pools: tuple[str, ...]
    """Those that are forked from it."""
    handlers: tuple[str, ...] = ()
    steps: tuple[dict[str, Any], ...] = ()
    """Rows of the audit and their sum; none when it was not finished."""
    refused: tuple[str, ...] = ()
    warned: tuple[str, ...] = ()
    problem: str | None = None
    """Why it could not be finished."""

    @property
    def problems(self) -> tuple[str, ...]:
        """All that keeps the daemon from starting with this."""
        return (self.problem,) if self.problem is not None else self.refused


def probe_molds(loaded: Loaded) -> list[MoldReport]:
    """One report for each mold that the daemon would have, in the order of their pools."""
    plan = plan_of(loaded.settings, 1)
    return [probe_mold(loaded, plan, spec) for spec in plan.molds.values()]


def probe_mold(loaded: Loaded, plan: Plan, spec: MoldSpec) -> MoldReport:
    """Prepare one mold; takes at most `boot_timeout_seconds`. Never raises for the faults of what is imported."""
    pools = tuple(pool.name for pool in plan.pools.values() if pool.mold == spec.name)
    deadline_seconds = plan.limits.boot_seconds
    record = {**spec.fields(loaded.folder), "entry": ROLES["worker"]}
    if record["cwd"] is not None and not Path(record["cwd"]).is_dir():
        return MoldReport(spec.name, pools, problem=f'cwd = "{spec.cwd}": no such folder')
    environment = dict(os.environ)
    share_processors(environment, plan.workers)
    environment.update(spec.environment)
    # Not as an argument: arguments are for everybody to read, and the environment may hold secrets.
    record_fd = memory_file("rrqd-probe", json.dumps(record).encode())
    answer_end, write_end = os.pipe()
    # A file takes the complaints: a pipe would have to be read to its end, which a left-behind child can put off.
    with os.fdopen(answer_end, "rb") as answers, tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "rrqd.supervisor.probe", str(record_fd), str(write_end)],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(record_fd, write_end),
                start_new_session=True,
            )
        finally:
            os.close(record_fd)
            os.close(write_end)
        try:
            process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            problem = f"importing took longer than boot_timeout_seconds ({deadline_seconds:g})"
            return MoldReport(spec.name, pools, problem=problem)
        finally:
            _end_session(process)
        os.set_blocking(answers.fileno(), False)  # a process the application left behind may hold the other end
        line = answers.read() or b""
        complaints.seek(0)
        return _report(spec.name, pools, line, process.returncode, complaints.read())


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the probe and what it started, if anything of it is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _report(name: str, pools: tuple[str, ...], line: bytes, returncode: int, complaint: bytes) -> MoldReport:
    if line.endswith(b"\n"):
        answer = json.loads(line)
        if "problem" in answer:
            return MoldReport(name, pools, problem=answer["problem"])
        found = {key: tuple(answer[key]) for key in ("handlers", "steps", "refused", "warned")}
        return MoldReport(name, pools, **found, problem=None)
    end = f"killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
    last = complaint.decode(errors="replace").strip()[-_LAST_WORDS:].rpartition("\n")[2]
    return MoldReport(name, pools, problem=f"importing ended the process ({end})" + (f": {last}" if last else ""))


def main(arguments: list[str]) -> None:
    """`<fd with the mold's part of a boot record> <fd for the answer>`"""
    import gc

    from rrqd.exc import ConfigError
    from rrqd.supervisor import audit, mold

    record_fd, answer_fd = map(int, arguments)
    with os.fdopen(record_fd, "rb") as file:
        record = json.loads(file.read())
    os.set_inheritable(answer_fd, False)
    gc.disable()
    answer: dict[str, object]
    try:
        handlers, _run_worker, found = mold.prepare(record)
    except ConfigError as error:
        answer = {"problem": str(error)}
    else:
        answer = {
            "handlers": handlers.registry.get_registered_functions(),
            "steps": [step.as_fields() for step in (*found.steps, audit.total(found.steps))],
            "refused": found.refused,
            "warned": found.warned,
        }
    os.write(answer_fd, json.dumps(answer).encode() + b"\n")
    sys.stdout.flush()
    os._exit(0)  # threads that the modules left running must not keep the answer waiting


if __name__ == "__main__":
    main(sys.argv[1:])
