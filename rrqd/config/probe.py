"""Imports the handlers of pools in a process of their own, so that a module that hangs, exits or crashes harms nobody.

`probe_pool` is called by `rrqd config check`; it runs `python -m rrqd.config.probe`, which imports one pool's
preloads and handlers, as the mold would, and writes one JSON line to a pipe of its own: what the application
prints while it is imported can't be mistaken for the answer.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rrqd.config.loader import Loaded
from rrqd.config.pool_table import PoolSettings
from rrqd.exc import ConfigError

_LAST_WORDS = 400


@dataclass(frozen=True, slots=True)
class PoolReport:
    """What importing a pool's handlers gave: the functions found, or the problem."""

    pool: str
    handlers: list[str] = field(default_factory=list)
    problem: str | None = None


def probe_pool(loaded: Loaded, name: str) -> PoolReport:
    """Import the handlers of the pool `name`; takes at most `boot_timeout_seconds`. Never raises for their faults."""
    pool = loaded.settings.rrqd.pools[name]
    deadline_seconds = loaded.settings.rrqd.boot_timeout_seconds
    if pool.cwd is not None and not Path(pool.cwd).is_dir():
        return PoolReport(name, problem=f'cwd = "{pool.cwd}": no such folder')
    answer_end, write_end = os.pipe()
    command = [sys.executable, "-m", "rrqd.config.probe", str(write_end), str(loaded.folder)]
    # A file takes the complaints: a pipe would have to be read to its end, which a left-behind child can put off.
    with os.fdopen(answer_end, "rb") as answers, tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [*command, pool.model_dump_json()],
                cwd=pool.cwd,
                env={**os.environ, **pool.environment},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                pass_fds=(write_end,),
                start_new_session=True,
            )
        finally:
            os.close(write_end)
        try:
            process.wait(deadline_seconds)
        except subprocess.TimeoutExpired:
            return PoolReport(name, problem=f"importing took longer than boot_timeout_seconds ({deadline_seconds:g})")
        finally:
            _end_session(process)
        os.set_blocking(answers.fileno(), False)  # a process the application left behind may hold the other end
        line = answers.read() or b""
        complaints.seek(0)
        return _report(name, line, process.returncode, complaints.read())


def _end_session(process: subprocess.Popen[bytes]) -> None:
    """Kill the probe and what it started, if anything of it is left."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        pass
    process.wait()


def _report(name: str, line: bytes, returncode: int, complaint: bytes) -> PoolReport:
    if line.endswith(b"\n"):
        answer = json.loads(line)
        return PoolReport(name, answer.get("handlers", []), answer.get("problem"))
    end = f"killed by {signal.Signals(-returncode).name}" if returncode < 0 else f"exit code {returncode}"
    last = complaint.decode(errors="replace").strip()[-_LAST_WORDS:].rpartition("\n")[2]
    return PoolReport(name, problem=f"importing ended the process ({end})" + (f": {last}" if last else ""))


def main(arguments: list[str]) -> None:
    """`<fd of the answer> <configuration folder> <pool as JSON>`"""
    from rrqd.handlers import import_module, load_handlers, make_importable

    descriptor, folder, text = arguments
    pool = PoolSettings.model_validate_json(text)
    os.set_inheritable(int(descriptor), False)
    make_importable(Path(folder))
    answer: dict[str, object]
    try:
        for module in pool.preload:
            import_module(module, f'preload = "{module}"')
        answer = {"handlers": load_handlers(pool.handlers).registry.get_registered_functions()}
    except ConfigError as error:
        answer = {"problem": str(error)}
    os.write(int(descriptor), json.dumps(answer).encode() + b"\n")
    sys.stdout.flush()
    os._exit(0)  # threads that the modules left running must not keep the answer waiting


if __name__ == "__main__":
    main(sys.argv[1:])
