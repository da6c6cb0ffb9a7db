"""Whole programs as users write them: scripts with functions of their own, run from outside, on an embedded server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.homes import homes
from bench.sheet import Sheet
from rrqd.supervisor.home import Home, Stay, enter
from tests.support.daemon import ROOT
from tests.support.wait import until


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stay]:
    """One home for all programs of this page; it is kept warm."""
    stay = enter(Home(tmp_path_factory.mktemp("home")))
    yield stay
    stay.end()
    until(lambda: not stay.home.socket_path.exists(), 5, "the keeper to leave")


class Script:
    """A program in a file of its own."""

    def __init__(self, folder: Path, text: str, name: str = "script.py") -> None:
        self.path = folder / name
        self.path.write_text(textwrap.dedent(text))

    def start(self, home: Home, *args: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, str(self.path), *args], cwd=self.path.parent, text=True,
            env={**os.environ, "RRQD_HOME": str(home.folder), "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, home: Home, *args: str) -> list[str]:
        """Its lines of output."""
        process = self.start(home, *args)
        try:
            out, err = process.communicate(timeout=30)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, err
        return out.splitlines()


def test_basic_use(home: Stay, tmp_path: Path) -> None:
    program = """
        from rrqd.rq import Queue, Worker, Job, JobStatus

        def add(x, y):
            return x + y

        def greet(name, greeting="Hello"):
            return f"{greeting}, {name}!"

        queue = Queue("basic")
        first = queue.enqueue(add, 5, 3)
        second = queue.enqueue(greet, "Alice", greeting="Hi", description="a greeting")
        print(first.get_status(), second.description, queue.count())
        Worker([queue], name="w1").work(burst=True)
        print(first.result, second.result, first.is_finished(), queue.empty())
    """
    assert Script(tmp_path, program).run(home.home) == ["queued a greeting 2", "8 Hi, Alice! True True"]


def test_priorities(home: Stay, tmp_path: Path) -> None:
    program = """
        from rrqd.rq import Queue, Worker

        def task(name):
            print(name)

        high, default, low = Queue("p-high"), Queue("p-default"), Queue("p-low")
        low.enqueue(task, "low 1"); default.enqueue(task, "default 1"); high.enqueue(task, "high 1")
        low.enqueue(task, "low 2"); high.enqueue(task, "high 2")
        Worker([high, default, low]).work(burst=True)
    """
    assert Script(tmp_path, program).run(home.home) == ["high 1", "high 2", "default 1", "low 1", "low 2"]


def test_status_while_a_background_worker_runs(home: Stay, tmp_path: Path) -> None:
    program = """
        import threading
        from rrqd.rq import JobStatus, Queue, Worker

        begun, may_end = threading.Event(), threading.Event()

        def long_task():
            begun.set()
            may_end.wait(10)
            return "done"

        queue = Queue("status")
        worker = Worker([queue])
        job = queue.enqueue(long_task)
        print(job.get_status() == JobStatus.QUEUED, job.is_queued())
        worker.start()
        begun.wait(10)
        print(job.get_status(), job.is_started(), job.get_result(timeout=0.01))
        may_end.set()
        print(job.get_result(timeout=10), job.get_status())
        worker.stop()
    """
    assert Script(tmp_path, program).run(home.home) == ["True True", "started True None", "done finished"]


def test_scheduling(home: Stay, tmp_path: Path) -> None:
    program = """
        from datetime import datetime, timedelta
        from rrqd.rq import Queue, Worker

        def remind(what):
            return what

        queue = Queue("scheduling")
        worker = Worker([queue])
        worker.start()
        soon = queue.enqueue_in(timedelta(milliseconds=300), remind, "soon")
        at = queue.enqueue_at(datetime.now() + timedelta(milliseconds=400), remind, "at")
        later = queue.enqueue_in(timedelta(days=1), remind, "later")
        print(soon.get_status(), later.get_status())
        print(soon.get_result(timeout=10), at.get_result(timeout=10), later.get_status())
        worker.stop()
    """
    assert Script(tmp_path, program).run(home.home) == ["scheduled scheduled", "soon at scheduled"]


def test_errors_and_metadata(home: Stay, tmp_path: Path) -> None:
    program = """
        from rrqd.rq import Queue, Worker

        def divide(x, y):
            return x / y

        queue = Queue("errors")
        bad = queue.enqueue(divide, 1, 0)
        good = queue.enqueue(divide, 4, 2, description="Division", timeout=30, result_ttl=600, job_id="my-division")
        Worker([queue]).work(burst=True)
        print(bad.get_status(), bad.is_failed(), bad.result, bad.get_result())
        print(bad.exc_info.splitlines()[-1])
        found = queue.fetch_job("my-division")
        print(found.id, found.description, found.result, found.timeout, found.result_ttl, queue.fetch_job("nope"))
        shown = found.to_dict()
        print(shown["status"], shown["result"], sorted(shown)[:3], shown["created_at"] is not None)
    """
    assert Script(tmp_path, program).run(home.home) == [
        "failed True None None",
        "ZeroDivisionError: division by zero",
        "my-division Division 2.0 30 600 None",
        "finished 2.0 ['args', 'created_at', 'description'] True",
    ]


def test_a_long_running_worker_ends_gracefully_at_a_signal(home: Stay, tmp_path: Path) -> None:
    program = """
        import signal, sys, time
        from rrqd.rq import Queue, Worker

        def slow():
            print("running", flush=True)
            time.sleep(0.4)
            return "finished all the same"

        queue = Queue("long")
        worker = Worker([queue], name="long-running")
        signal.signal(signal.SIGTERM, lambda *_: worker.stop())
        job = queue.enqueue(slow)
        worker.start()
        while worker.is_running:
            time.sleep(0.01)
        worker.stop()
        print(job.result)
    """
    process = Script(tmp_path, program).start(home.home)
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (0, "finished all the same\n", "")


def test_work_in_the_main_thread_ends_at_a_signal_when_the_job_has_ended(home: Stay, tmp_path: Path) -> None:
    program = """
        import time
        from rrqd.rq import Queue, Worker

        def slow():
            print("running", flush=True)
            time.sleep(0.3)
            return "finished"

        queue = Queue("main-thread")
        job = queue.enqueue(slow)
        print(Worker([queue]).work(), job.result)
    """
    process = Script(tmp_path, program).start(home.home)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20)
    finally:
        process.kill()
        process.wait()
    assert (process.returncode, out, err) == (0, "True finished\n", "")


REAL_RQ = """
    from {0} import Queue, Worker, Retry
    from {0}.job import Job, JobStatus, get_current_job
    from {0}.decorators import job
    from {0}.registry import FailedJobRegistry, FinishedJobRegistry, ScheduledJobRegistry
    from {0}.exceptions import NoSuchJobError
    from datetime import timedelta

    def count_words(text):
        current = get_current_job()
        current.meta["words"] = len(text.split())
        current.save_meta()
        return current.meta["words"]

    def fail():
        raise RuntimeError("no")

    @job("rq-programs", timeout=10)
    def decorated(x):
        return x * 2

    queue = Queue("rq-programs", default_timeout=60)
    first = queue.enqueue(count_words, "one two three", job_timeout="1m", result_ttl=-1, meta={{"lang": "en"}})
    bad = queue.enqueue(fail, retry=Retry(max=2))
    later = queue.enqueue_in(timedelta(hours=1), count_words, text="later")
    twice = decorated.delay(21)
    many = queue.enqueue_many([Queue.prepare_data(count_words, ("a b",), job_id="batch-1"),
                               Queue.prepare_data(count_words, ("c",), at_front=True)])
    print(len(queue), [one.func_name for one in queue.jobs][:1])
    Worker([queue]).work(burst=True)
    first.refresh()
    print(first.return_value(), first.meta, first.get_status(), first.is_finished == True)
    print(bad.get_status() == JobStatus.FAILED, bad.latest_result().exc_string.splitlines()[-1])
    print(twice.return_value(), [one.return_value() for one in many], decorated(2))
    print(FailedJobRegistry(queue=queue).get_job_ids() == [bad.id], len(FinishedJobRegistry(queue=queue)),
          ScheduledJobRegistry(queue=queue).get_job_ids() == [later.id])
    print(FailedJobRegistry(queue=queue).requeue(bad.id).get_status())
    print(Job.fetch(first.id, connection=queue.connection).args)
    try:
        Job.fetch("unknown", connection=queue.connection)
    except NoSuchJobError:
        print("no such job")
"""


def test_a_program_for_the_real_rq_runs_with_its_imports_changed(home: Stay, tmp_path: Path) -> None:
    assert Script(tmp_path, textwrap.dedent(REAL_RQ).format("rrqd.rq")).run(home.home) == [
        "5 ['__main__.count_words']",
        "3 {'lang': 'en', 'words': 3} finished True",
        "True RuntimeError: no",
        "42 [2, 1] 4",
        "True 4 True",
        "queued",
        "('one two three',)",
        "no such job",
    ]


def test_a_queue_in_memory_is_shared_with_children_and_leaves_nothing(home: Stay, tmp_path: Path) -> None:
    program = """
        import asyncio, multiprocessing, os
        from rrqd.rq import Queue, Worker

        def square(number):
            return number * number

        def produce(number):
            Queue("mem", memory=True).enqueue(square, number, job_id=f"of-child-{number}")

        async def main():
            return Queue("mem", memory=True).enqueue(square, 9)     # in a running loop, as in a notebook

        queue = Queue("mem", memory=True)
        first = queue.enqueue(square, 2)
        fork = multiprocessing.get_context("fork")
        children = [fork.Process(target=produce, args=[number]) for number in (3, 4)]
        for child in children: child.start()
        for child in children: child.join()
        last = asyncio.run(main())
        Worker([queue]).work(burst=True)
        print(first.result, [queue.fetch_job(f"of-child-{number}").result for number in (3, 4)], last.result)
        print(queue.connection.dsn.removeprefix("unix://").removesuffix("/valkey.sock"))
    """
    said = Script(tmp_path, program).run(home.home)
    assert said[0] == "4 [9, 16] 81"
    until(lambda: not Path(said[1]).exists(), 5, "the folder of the memory to go")


def test_a_script_leaves_another_ones_functions_alone(home: Stay, tmp_path: Path) -> None:
    program = """
        import sys
        from rrqd.rq import Queue, Worker

        def mine():
            return __file__.rpartition("/")[2]

        queue = Queue("scripts")
        if sys.argv[1] == "enqueue":
            queue.enqueue(mine, job_id="of-one")
        else:
            Worker([queue]).work(burst=True)
            print(queue.fetch_job("of-one").result)
    """
    one, other = Script(tmp_path, program, "one.py"), Script(tmp_path, program, "other.py")
    one.run(home.home, "enqueue")

    assert other.run(home.home, "work") == ["None"]
    until(lambda: one.run(home.home, "work") == ["one.py"], 15, "the job to be looked at again, by its own script")


@pytest.mark.timeout(300)
def test_nothing_enqueued_is_lost_whoever_is_killed() -> None:
    """A hundred kills; ``python -m bench.soak homes --long`` has a thousand."""
    sheet = Sheet({})
    homes(sheet, long=False)
    assert sheet.notes == []
    assert {one.what: one.middle for one in sheet.figures()}["jobs lost"] == 0
