"""``rrqd worker watch``: a change restarts the worker, once, after the programs that are to run before."""

from __future__ import annotations

import signal

import pytest

from tests.supervisor.test_worker_run import Place, place
from tests.support.wait import until

__all__ = ["place"]

ANSWER = """
from rrqd import Registry
registry = Registry()

@registry.handler("answer")
async def answer(request):
    return {number}
"""


def begun(place: Place) -> int:
    return place.log().count('"event":"worker.ready"')


@pytest.fixture
def watched(place: Place) -> Place:
    (place.folder / "jobs.py").write_text(ANSWER.format(number=1))
    (place.folder / ".gitignore").write_text("scratch_*.py\n")
    (place.folder / "before.py").write_text(
        "import pathlib, sys\n"
        "pathlib.Path('made.py').write_text('made = 1')\n"
        "sys.exit(pathlib.Path('refuse').exists())\n"
    )
    text = (place.folder / "rrq.toml").read_text()
    table = f'[rrq.watch]\npre_restart_cmds = [["{place.python}", "before.py"]]\n\n'
    (place.folder / "rrq.toml").write_text(text.replace("[rrqd]\n", table + "[rrqd]\n", 1))
    return place


def test_a_change_restarts_the_worker_once_with_the_code_as_it_is_now(watched: Place) -> None:
    place = watched
    process = place.start("worker", "watch", "--ignore-pattern", "log", "--ignore-pattern", "state")
    until(lambda: begun(place) == 1, 40, "the first start")
    with place.client() as client:
        for number in (2, 3):
            (place.folder / "scratch_1.py").write_text(f"{number}")
            (place.folder / "jobs.py").write_text(ANSWER.format(number=number))
            (place.folder / "other.py").write_text(f"{number}")
            until(lambda number=number: begun(place) == number, 40, "the restart")
            job = client.enqueue("answer")
            end = client.wait_for_completion(job, timeout_seconds=10)
            assert end is not None
            assert end.result == number
    assert place.log().count("watch.changed") == 2
    assert place.log().count('"concurrency":1}') == 3
    assert "scratch_1" not in place.log()
    assert (place.folder / "made.py").exists()

    (place.folder / "refuse").write_text("")
    (place.folder / "jobs.py").write_text(ANSWER.format(number=4))
    until(lambda: "watch.held_back" in place.log(), 40, "the programs to hold it back")
    (place.folder / "refuse").unlink()
    (place.folder / "jobs.py").write_text(ANSWER.format(number=5))
    until(lambda: begun(place) == 4, 40, "the next start")
    process.send_signal(signal.SIGINT)
    assert process.wait(15) == 0
