"""A stop signal is never lost, whatever storm it comes in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

PROGRAM = """
import os, signal, sys
from rrqd.supervisor.signals import Signals
signals = Signals()
signals.install()
{body}
print(sorted(one.name for one in signals.take()))
"""


def _run(body: str) -> str:
    done = subprocess.run([sys.executable, "-c", PROGRAM.format(body=body)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_a_term_is_kept_when_the_wake_up_pipe_is_full() -> None:
    storm = "for _ in range(70_000): os.kill(os.getpid(), signal.SIGUSR1)\nos.kill(os.getpid(), signal.SIGTERM)"
    assert _run(storm) == "['SIGTERM', 'SIGUSR1']"


def test_the_same_signal_twice_is_one() -> None:
    assert _run("os.kill(os.getpid(), signal.SIGHUP); os.kill(os.getpid(), signal.SIGHUP)") == "['SIGHUP']"


def test_a_signal_makes_the_descriptor_readable_and_taking_empties_it() -> None:
    body = (
        "import select\n"
        "os.kill(os.getpid(), signal.SIGTERM)\n"
        "assert select.select([signals.fd], [], [], 0)[0]\n"
        "signals.take()\n"
        "assert not select.select([signals.fd], [], [], 0)[0]"
    )
    assert _run(body) == "[]"


def test_those_that_mean_nothing_yet_do_no_harm() -> None:
    body = "for number in (signal.SIGPIPE, signal.SIGPIPE): os.kill(os.getpid(), number)"
    assert _run(body) == "[]"


def test_installing_changes_this_process_only_for_itself() -> None:
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    assert os.getpid() > 0
