"""A plain function is stopped in its thread: before its first step, during, and never after."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from rrqd.rq.stopping import Interruptible, JobStopped, JobTimeoutException


def in_thread(function: Callable[[], object]) -> list[BaseException | None]:
    """What a function raises in a thread of its own, which is given back at once."""
    raised: list[BaseException | None] = []

    def run() -> None:
        try:
            function()
            raised.append(None)
        except BaseException as fault:
            raised.append(fault)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    return raised


@pytest.mark.parametrize(
    ("why", "kind"), [("timeout", JobTimeoutException), ("cancel", JobStopped), ("drain", JobStopped)]
)
def test_a_stop_that_comes_first_keeps_the_function_from_starting(why: str, kind: type[BaseException]) -> None:
    stopper, steps = Interruptible(), []
    stopper.stop(why)

    def run() -> None:
        with stopper:
            steps.append(1)

    assert isinstance(in_thread(run)[0], kind)
    assert steps == []


def test_a_stop_interrupts_a_loop() -> None:
    stopper, begun, never = Interruptible(), threading.Event(), threading.Event()

    def run() -> None:
        with stopper:
            begun.set()
            while True:
                never.wait(0.005)

    stopping = threading.Thread(target=lambda: (begun.wait(10), stopper.stop("timeout"), stopper.stop("cancel")))
    stopping.start()
    assert isinstance(in_thread(run)[0], JobTimeoutException)  # the first reason counts
    stopping.join()


def test_a_stop_does_not_reach_past_the_function() -> None:
    stopper, left, steps = Interruptible(), threading.Event(), []

    def run() -> None:
        with stopper:
            pass
        stopping = threading.Thread(target=stopper.stop, args=["cancel"])
        stopping.start()
        stopping.join()
        for number in range(1000):
            steps.append(number)
        left.set()

    assert in_thread(run) == [None]
    assert left.is_set()
    assert len(steps) == 1000


def test_except_exception_does_not_swallow_a_cancel() -> None:
    assert not issubclass(JobStopped, Exception)
    assert issubclass(JobTimeoutException, Exception)
