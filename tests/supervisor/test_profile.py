"""`rrqd profile`, as an operator has it: a worker and a job of a real daemon, whose pool has a middleware, too."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from tests.support.app import TOLD, app
from tests.support.daemon import ROOT, Daemon

MARK = """
import contextlib, pathlib


@contextlib.contextmanager
def mark(request):
    (pathlib.Path(__file__).parent / f"mark-{request.job_id}").touch()
    yield
"""


async def test_a_worker_and_a_job_are_drawn_while_they_go_on(tmp_path: Path) -> None:
    pools = {"default": {"processes": 1, "concurrency": 3, "middleware": ["jobs:mark"]}}
    with Daemon(pools=pools, stand_ins=False, jobs=TOLD + MARK) as daemon:

        def profile(*words: str, code: int = 0) -> Any:
            config = str(daemon.folder / "rrq.toml")
            done = subprocess.run(
                [sys.executable, "-m", "rrqd", "profile", *words, "--by", "thread", "--config", config, "--json"],
                cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True, timeout=40,
            )  # fmt: skip
            assert (done.returncode, "Traceback" in done.stderr) == (code, False), done.stderr
            return done.stderr if code else json.loads(done.stdout)

        async with app(daemon) as a:
            (waits,) = await a.held(1)
            blocks = await a.tell("block until", gate=str(daemon.folder / "gate"), plain=True)
            await a.running([blocks])
            told = profile("0", "--seconds", "0.3", "--idle")
            assert (told["slot"], told["by"]) == ("default/0", "a thread of the worker")
            assert any("told.py" in line for line in (tmp_path / told["files"][1]).read_text().splitlines())
            told = profile(waits, "--seconds", "0.2", "--output", "of-a-job")
            assert told["files"] == ["of-a-job.svg", "of-a-job.txt"]
            assert told["top"][0]["function"] == "(waiting)"
            picture = ElementTree.parse(tmp_path / "of-a-job.svg")
            assert waits in "".join(picture.getroot().itertext())
            stacks = (tmp_path / "of-a-job.txt").read_text()
            assert "tests/support/told.py" in stacks
            assert "told.py" in "".join(one["function"] for one in profile(blocks, "--seconds", "0.1")["top"])
            assert profile("default/7", code=1).startswith("rrqd: there is no worker default/7; there are: default/0")
            assert profile("nobody", code=1) == (
                "rrqd: there is no worker and no job nobody; rrqd debug lists the workers\n"
            )
            a.let_go()
            assert {(await a.end(one)).status for one in (waits, blocks)} == {"COMPLETED"}
            assert profile(waits, code=1) == f"rrqd: job {waits} does not run now: it is COMPLETED\n"
            assert {path.name for path in daemon.folder.glob("mark-*")} == {f"mark-{waits}", f"mark-{blocks}"}
        assert daemon.stop() == 0
