"""Processes that end with their parent."""

from __future__ import annotations

import subprocess
import sys

import psutil

from tests.support.wait import until

CREW = "import asyncio; from rrqd.standalone.crew import Crew; asyncio.run(Crew(['sleep', '600'], 2).run())"


def test_the_processes_of_num_workers_do_not_outlive_a_killed_parent() -> None:
    crew = psutil.Popen([sys.executable, "-c", CREW], stdin=subprocess.DEVNULL)
    until(lambda: [one.name() for one in crew.children()] == ["sleep", "sleep"], 20, "both to have been started")
    children = crew.children()
    crew.kill()
    crew.wait()
    _gone, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
