"""The pages of RQ's face and of testing run as they are written: files, commands and what these print."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.config.loader import load
from rrqd.rq import Queue
from rrqd.rq.connection import Connection
from rrqd.rq.queue import ABSENT, JOB_OPTIONS
from rrqd.supervisor.home import Home, Stay, enter
from rrqd.testing import FAULTS, Engine
from tests.support.daemon import ROOT
from tests.support.wait import until


def page(name: str) -> str:
    return (ROOT / "docs" / f"{name}.md").read_text()


def write_files(name: str, folder: Path) -> None:
    """Every block of Python that begins with its file's name."""
    for text in re.findall(r"(?ms)^```python\n(.*?)^```$", page(name)):
        head = re.match(r"# ([\w.]+\.py)", text)
        assert head is not None, text
        (folder / head[1]).write_text(text)


@pytest.fixture(scope="module")
def stay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stay]:
    stay = enter(Home(tmp_path_factory.mktemp("home")))
    yield stay
    stay.end()
    until(lambda: not stay.home.socket_path.exists(), 5, "the keeper to leave")


def environment(stay: Stay) -> dict[str, str]:
    return {
        **os.environ, "RRQD_HOME": str(stay.home.folder), "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }  # fmt: skip


def run(command: str, folder: Path, stay: Stay) -> subprocess.CompletedProcess[str]:
    words = command.split()
    words = [sys.executable, *words[1:]] if words[0] == "python" else words
    return subprocess.run(
        words, cwd=folder, env=environment(stay), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip


def start(command: str, folder: Path, stay: Stay) -> subprocess.Popen[bytes]:
    """A program that stays; what it says is in ``log``."""
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, *command.split()[1:]], cwd=folder, env=environment(stay), stdin=subprocess.DEVNULL,
            stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip


def end(program: subprocess.Popen[bytes]) -> None:
    if program.poll() is None:
        os.killpg(program.pid, signal.SIGKILL)
        program.wait()


@pytest.mark.parametrize("name", ["first-job", "migrating-from-rq"])
def test_the_commands_print_what_the_page_says(name: str, stay: Stay, tmp_path: Path) -> None:
    write_files(name, tmp_path)
    for block in re.findall(r"(?ms)^```console\n(.*?)^```$", page(name)):
        command, _, said = block.removeprefix("$ ").partition("\n")
        done = run(command, tmp_path, stay)
        assert done.returncode == 0, done.stderr
        assert done.stdout == said


def test_the_daemon_runs_them_on_the_same_server(stay: Stay, tmp_path: Path) -> None:
    write_files("first-job", tmp_path)
    (config,) = re.findall(r"(?ms)^  ```toml\n(.*?)^  ```$", page("first-job"))
    text = re.sub(r"(?m)^  ", "", config).replace("[rrqd]", f'[rrqd]\nstate_dir = "{tmp_path}/state"')
    (tmp_path / "rrq.toml").write_text(text)
    command = re.search(r"`python (-m rrqd\.rq with rrqd --config rrq\.toml)`", page("first-job"))
    look = re.search(r"`python (-m rrqd\.rq with rrqd job show words)`", page("first-job"))
    assert command is not None
    assert look is not None
    daemon = start(f"python {command[1]}", tmp_path, stay)
    place = Connection(stay.home.dsn)
    try:
        job = Queue("default", place).enqueue("tasks.word_count", "four words are here", job_id="again")
        assert job.get_result(timeout=20) == 4, (tmp_path / "log").read_text()
        shown = run("python " + look[1].replace("words", "again"), tmp_path, stay)
        assert "dotted:tasks.word_count" in shown.stdout, shown.stderr
        daemon.send_signal(signal.SIGTERM)
        assert daemon.wait(20) == 0
    finally:
        place.close()
        end(daemon)


def test_the_tests_on_the_page_pass(stay: Stay, tmp_path: Path) -> None:
    write_files("testing", tmp_path)
    (tmp_path / "shop_jobs.py").write_text("from rrqd import Registry\n\nregistry = Registry()\n")
    done = run("python -m pytest -q -p rrqd.testing.plugin -p no:cacheprovider test_shop.py", tmp_path, stay)
    assert done.returncode == 0, done.stdout
    assert "8 passed" in done.stdout


def test_the_tasks_of_the_page_run_in_a_pool(stay: Stay, tmp_path: Path) -> None:
    write_files("tasks", tmp_path)
    pool = 'queues = ["default", "mail"]\nhandlers = "shop_tasks:app"\n'
    (tmp_path / "rrq.toml").write_text(f'[rrqd]\nhttp = "off"\n[rrqd.pools.default]\n{pool}')
    worker = start("python -m rrqd.rq with rrqd worker run --config rrq.toml", tmp_path, stay)
    try:
        (block,) = re.findall(r"(?ms)^```console\n(.*?)^```$", page("tasks"))
        command, _, said = block.removeprefix("$ ").partition("\n")
        done = run(command, tmp_path, stay)
        assert done.stdout == said, done.stderr + (tmp_path / "log").read_text()
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(20) == 0
    finally:
        end(worker)


def test_every_call_and_fault_of_the_testing_page_is_there() -> None:
    named = set(re.findall(r"`rrqd\.(\w+)", page("testing")))
    assert all(hasattr(Engine, name) or name in ("dsn", "rq") for name in named)
    public = {name for name in vars(Engine) if not name.startswith("_")} - {"use", "clear", "close", "in_charge"}
    assert public <= named
    assert re.findall(r"(?m)^\| `([\w-]+)` \| (?:the|\S+'s)", page("testing")) == [str(fault) for fault in FAULTS]


def test_every_option_of_an_enqueue_is_on_the_migration_page() -> None:
    part = page("migrating-from-rq").partition("## Options of an enqueue")[2].partition("\n## ")[0]
    told = {name for row in re.findall(r"(?m)^\| (`.*?) \|", part) for name in re.findall(r"`(\w+)=?`", row)}
    assert told == {*JOB_OPTIONS, *ABSENT, "args", "kwargs"}


@pytest.mark.parametrize("file", ["jobs.py", "values.py", "patient.py", "slow_down.py"])
def test_the_examples_of_the_handlers_page_run(file: str, stay: Stay, tmp_path: Path) -> None:
    write_files("handlers", tmp_path)
    done = run(f"python {file}", tmp_path, stay)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("spec", re.findall(r'handlers = ("dotted:.*?")', page("handlers")))
def test_the_patterns_of_the_handlers_page_are_taken(spec: str, tmp_path: Path) -> None:
    (tmp_path / "rrq.toml").write_text(f"[rrqd.pools.default]\nhandlers = {spec}\n")
    assert load(str(tmp_path / "rrq.toml")).settings.rrqd.pools["default"].handlers == spec.strip('"')


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["with"], 64, "name the program"),
        (["with", "no-such-program"], 127, "no-such-program: No such file"),
        (["worker", "--url", "http://x"], 64, "must start with redis://"),
        (["work"], 2, "invalid choice"),
    ],
)
def test_a_bad_call_of_the_command_is_told_in_a_line(words: list[str], code: int, said: str, stay: Stay) -> None:
    done = run(" ".join(["python -m rrqd.rq", *words]), ROOT, stay)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
