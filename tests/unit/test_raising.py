"""What is raised in another thread arrives inside or not at all, and leaves nothing in the interpreter."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from rrqd.raising import Reachable

#: Ends only if no exception is thought to be under way: a traced step of Python 3.11 would look for it for ever.
TRACED = """
import sys, threading
from rrqd.raising import Reachable
{during}
sys.settrace(lambda *_: None)
(lambda: None)()
print("ended")
"""
RETURNS_FIRST = """
reach, sent = Reachable(), threading.Event()
def send():
    reach.send(ValueError)
    sent.set()
def run():
    with reach:
        threading.Thread(target=send).start()
        try:
            sent.wait()
        except ValueError:
            pass
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""
ARRIVES_AT_THE_END = """
reach = Reachable()
def run():
    with reach:
        reach.send(ValueError)
for _ in range(100):
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
"""


@pytest.mark.parametrize("during", ["with Reachable(): pass", RETURNS_FIRST, ARRIVES_AT_THE_END])
def test_nothing_is_left_under_way(during: str) -> None:
    program = TRACED.format(during=during)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.stdout == "ended\n", done.stderr


def test_it_is_raised_inside_only() -> None:
    reach, inside, over = Reachable(), threading.Event(), threading.Event()
    seen: list[str] = []

    def run() -> None:
        try:
            with reach:
                inside.set()
                while True:
                    threading.Event().wait(0.001)
        except ValueError:
            seen.append("raised")
        over.wait(10)
        seen.append("went on")

    thread = threading.Thread(target=run)
    assert not reach.send(ValueError)
    thread.start()
    inside.wait(10)
    assert reach.send(ValueError)
    while not seen:
        threading.Event().wait(0.001)
    assert not reach.send(KeyError)
    over.set()
    thread.join(10)
    assert seen == ["raised", "went on"]


def test_what_arrives_while_leaving_is_not_raised_later() -> None:
    reach = Reachable()
    for _ in range(2000):
        sender = threading.Thread(target=reach.send, args=[ValueError])
        try:
            with reach:
                sender.start()
        except ValueError:
            pass
        sender.join()  # whatever comes here fails the test
