"""What an import leaves behind is found, named and judged. Each in a process of its own: hooks can't be taken back."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from rrqd.supervisor.audit import OK, REFUSED, WARNED, Step, total
from tests.support.daemon import ROOT

PROGRAM = """
import importlib, json, os, sys
from rrqd.supervisor.audit import Audit
sys.path.insert(0, sys.argv[1])
audit = Audit()
for name in sys.argv[2:]:
    audit.step(name, lambda: importlib.import_module(name))
audit.try_fork()
print(json.dumps([[step.as_fields() for step in audit.steps], audit.short()]))
sys.stdout.flush()
os._exit(0)
"""


@dataclass
class Found:
    """What the audit said about some modules, by their names."""

    steps: dict[str, dict[str, Any]]
    short: list[dict[str, Any]] = field(default_factory=list)
    errors: str = ""

    def verdicts(self) -> dict[str, str]:
        return {name: step["verdict"] for name, step in self.steps.items()}

    def problem(self, name: str) -> str:
        (problem,) = self.steps[name]["problems"]
        return str(problem)


def audited(folder: Path, **modules: str) -> Found:
    """Import the modules, which hold these texts, in their order."""
    for name, code in modules.items():
        (folder / f"{name}.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(folder), *modules],
        cwd=ROOT, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    steps, short = json.loads(done.stdout)
    return Found({step["import"]: step for step in steps}, short, done.stderr)


THREAD = """
import threading
threading.Thread(target=threading.Event().wait, name="poller", daemon=True).start()
"""
STOPPING_THREAD = """
import os, threading
over = threading.Event()
thread = threading.Thread(target=over.wait, name="pool")
thread.start()
def stop():
    over.set()
    thread.join()
os.register_at_fork(before=stop)
"""


def test_what_leaves_nothing_behind_is_ok(tmp_path: Path) -> None:
    found = audited(tmp_path, calm="x = 1\n")
    assert found.verdicts() == {"calm": OK, "fork": OK}
    assert found.steps["calm"]["problems"] == []


def test_a_thread_is_refused_with_its_name_and_its_import(tmp_path: Path) -> None:
    found = audited(tmp_path, calm="x = 1\n", threaded=THREAD, after="y = 1\n")
    assert found.verdicts() == {"calm": OK, "threaded": REFUSED, "after": OK, "fork": OK}
    assert found.problem("threaded") == "importing threaded leaves a thread running (poller); start it in on_startup"
    assert found.steps["threaded"]["threads"] == 1


def test_a_thread_that_a_hook_ends_before_each_fork_is_ok(tmp_path: Path) -> None:
    found = audited(tmp_path, pool=STOPPING_THREAD)
    assert found.verdicts() == {"pool": OK, "fork": OK}
    assert found.steps["pool"]["threads"] == 0


def test_a_thread_that_is_just_ending_is_ok(tmp_path: Path) -> None:
    code = "import threading\nfor _ in range(5): threading.Thread(target=threading.Event().wait, args=[0.01]).start()\n"
    assert audited(tmp_path, short=code).verdicts()["short"] == OK


def test_an_event_loop_is_refused(tmp_path: Path) -> None:
    found = audited(tmp_path, looping="import asyncio\nloop = asyncio.new_event_loop()\n")
    assert found.verdicts()["looping"] == REFUSED
    assert found.problem("looping") == "importing looping creates an event loop; create it in on_startup"
    assert found.steps["looping"]["loops"] == 1


def test_a_connection_is_warned_about_and_a_pair_of_sockets_is_not(tmp_path: Path) -> None:
    found = audited(
        tmp_path,
        paired="import socket\npair = socket.socketpair()\n",
        listening="import socket\nlistener = socket.create_server(('127.0.0.1', 0))\n",
    )
    assert found.verdicts() == {"paired": OK, "listening": WARNED, "fork": OK}
    assert "opens a network connection" in found.problem("listening")
    assert found.steps["listening"]["sockets"] == 1


def test_a_child_process_is_warned_about_until_it_has_ended(tmp_path: Path) -> None:
    ended = (
        "import os, subprocess\n"
        "gone = subprocess.Popen(['true'])\n"
        "os.waitid(os.P_PID, gone.pid, os.WEXITED | os.WNOWAIT)\n"
    )
    left = "import subprocess\nchild = subprocess.Popen(['cat'], stdin=subprocess.PIPE)\n"
    found = audited(tmp_path, ended=ended, left=left)
    assert found.verdicts() == {"ended": OK, "left": WARNED, "fork": OK}
    assert "importing left leaves a child process running (cat " in found.problem("left")
    assert found.steps["left"]["children"] == 1


def test_memory_and_time_are_counted_with_the_import_that_took_them(tmp_path: Path) -> None:
    slow = "import threading\nthreading.Event().wait(0.1)\n"
    found = audited(tmp_path, large="data = bytearray(b'x') * 20_000_000\n", slow=slow)
    assert 19_000_000 < found.steps["large"]["memory_bytes"] < 30_000_000
    assert found.steps["slow"]["memory_bytes"] < 5_000_000
    assert 0.1 <= found.steps["slow"]["seconds"] < 5


def test_the_log_names_what_was_slow_or_warned_and_the_sum(tmp_path: Path) -> None:
    slow = "import threading\nthreading.Event().wait(0.1)\n"
    listening = "import socket\nlistener = socket.create_server(('127.0.0.1', 0))\n"
    found = audited(tmp_path, calm="x = 1\n", slow=slow, listening=listening)
    assert [one["import"] for one in found.short if one["import"] != "fork"] == ["slow", "listening", "total"]
    assert found.short[-1]["verdict"] == WARNED
    assert found.short[-1]["seconds"] == pytest.approx(sum(step["seconds"] for step in found.steps.values()), abs=0.01)


def test_the_sum_has_the_worst_verdict() -> None:
    steps = [
        Step("a", 1.0, 10),
        Step("b", 0.5, -2, threads=1, verdict=REFUSED),
        Step("c", 0.0, sockets=2, verdict=WARNED),
    ]
    assert total(steps) == Step("total", 1.5, 8, threads=1, sockets=2, verdict=REFUSED)


HANG = "import os, threading\ndef hook():\n    threading.Event().wait()\nos.register_at_fork({when}=hook)\n"


@pytest.mark.parametrize("when", ["before", "after_in_parent", "after_in_child"])
def test_a_hook_that_hangs_is_refused_and_named(tmp_path: Path, when: str) -> None:
    found = audited(tmp_path, hanging=HANG.format(when=when))
    assert found.verdicts() == {"hanging": OK, "fork": REFUSED}
    place = f"{tmp_path}/hanging.py:3"
    assert found.problem("fork") == (
        f"a fork takes longer than 1 s: an at-fork hook hangs ({place}); register it in on_startup"
    )
    assert found.errors == ""


def test_a_hook_that_ends_the_child_is_refused(tmp_path: Path) -> None:
    code = "import os\nos.register_at_fork(after_in_child=lambda: os.kill(os.getpid(), 11))\n"
    found = audited(tmp_path, crashing=code)
    assert found.problem("fork") == "an at-fork hook ends what is forked (killed by SIGSEGV)"


def test_a_hook_that_starts_a_thread_in_the_child_is_warned_about(tmp_path: Path) -> None:
    start = "threading.Thread(target=threading.Event().wait, daemon=True).start()"
    code = f"import os, threading\nos.register_at_fork(after_in_child=lambda: {start})\n"
    found = audited(tmp_path, restarting=code)
    assert found.verdicts() == {"restarting": OK, "fork": WARNED}
    assert found.problem("fork") == "an at-fork hook starts threads (1) in whatever is forked"


def test_what_a_hook_complains_of_is_not_swallowed(tmp_path: Path) -> None:
    code = "import os\ndef hook():\n    raise ValueError('boo')\nos.register_at_fork(before=hook)\n"
    assert "ValueError: boo" in audited(tmp_path, complaining=code).errors


def test_the_timer_of_somebody_else_goes_on(tmp_path: Path) -> None:
    code = "import signal\nsignal.signal(signal.SIGALRM, lambda *_: None)\nsignal.setitimer(signal.ITIMER_REAL, 500)\n"
    (tmp_path / "timed.py").write_text(code)
    check = (
        "import signal\nassert signal.getitimer(signal.ITIMER_REAL)[0] > 400\nassert callable(signal.getsignal(14))\n"
    )
    found = audited(tmp_path, timed=code, threaded=STOPPING_THREAD, check=check)
    assert found.verdicts() == {"timed": OK, "threaded": OK, "check": OK, "fork": OK}
