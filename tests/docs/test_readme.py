"""README's blocks run as they are written. Only addresses are put in place of others, so that the ports of whoever runs
the tests, and of tests beside this one, stay free."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from rrqd import exc
from rrqd.cli.init_command import FILES
from rrqd.client import SyncRRQClient
from rrqd.runner import ExecutionRequest
from tests.support.daemon import ROOT, Daemon

README = (ROOT / "README.md").read_text()
SERVER, HTTP = "localhost:6379", "127.0.0.1:9464"
RRQD = [sys.executable, "-m", "rrqd"]


def blocks(language: str, heading: str) -> list[str]:
    """The blocks of code of one language under a heading."""
    part = re.split(r"(?m)^## ", README.partition(f"\n## {heading}\n")[2])[0]
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", part)


def empty_daemon() -> Daemon:
    """A daemon with a folder and ports of its own, for files that the test puts there."""
    return Daemon(http=True, stand_ins=False)


def addresses(daemon: Daemon) -> str:
    """What is added to a file so that its daemon keeps to itself."""
    return (
        f'state_dir = "{daemon.state}"\nhttp = "{daemon.rrqd["http"]}"\nembedded_address = "127.0.0.1:{daemon.port}"\n'
    )


def moved(text: str, daemon: Daemon) -> str:
    """The text with the daemon's own addresses."""
    return text.replace(SERVER, f"localhost:{daemon.port}").replace(HTTP, daemon.rrqd["http"])


def run(words: list[str], folder: Path) -> str:
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_job_in_five_minutes_runs_as_written() -> None:
    heading = "A first job in five minutes"
    (jobs, client), (config,) = blocks("python", heading), blocks("toml", heading)
    daemon = empty_daemon()
    daemon.write_jobs(jobs)
    (daemon.folder / "rrq.toml").write_text(f"{config}\n[rrqd]\n{addresses(daemon)}")
    (daemon.folder / "client.py").write_text(moved(client, daemon))
    with daemon:
        assert daemon.expect_log("rrqd.ready")["pools"] == {"default": 2}
        assert "'greeting': 'Hello, Ada!'" in run([sys.executable, "client.py"], daemon.folder)
        with SyncRRQClient(config={"redis_dsn": f"redis://localhost:{daemon.port}/0"}) as asking:
            path = str(daemon.folder / "client.py")
            counted = asking.wait_for_completion(asking.enqueue("count_lines", {"params": {"path": path}}))
            assert counted is not None
            assert counted.result == len(client.splitlines())
        assert daemon.stop() == 0


def test_what_make_run_starts_answers_the_commands_beside_it() -> None:
    commands = [line[2:] for line in blocks("console", "Two commands")[1].splitlines()]
    daemon = empty_daemon()
    for file in (ROOT / "config").glob("*.*"):
        shutil.copy(file, daemon.folder)
    example = (daemon.folder / "rrq.example.toml").read_text()
    (daemon.folder / "rrq.toml").write_text(example.replace("[rrqd]\n", f"[rrqd]\n{addresses(daemon)}", 1))
    with daemon:
        daemon.expect_log("rrqd.ready")
        answers = {}
        for command in commands:
            words = shlex.split(moved(command, daemon).replace("config/rrq.example.toml", "rrq.toml"))
            if words[0] == ".venv/bin/rrqd":
                answers["rrqd"] = run([*RRQD, *words[1:]], daemon.folder)
            else:
                curl, silent, url = words
                assert (curl, silent) == ("curl", "-s")
                direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
                with direct.open(url, timeout=10) as answer:
                    answers[url.rpartition("/")[2]] = answer.read().decode()
        assert "Ada" in json.loads(answers["rrqd"])
        assert json.loads(answers["readyz"])["ok"] is True
        assert 'rrqd_jobs_total{function="hello",outcome="success"' in answers["metrics"]
        assert daemon.stop() == 0


def test_make_knows_the_two_commands_and_run_starts_the_example() -> None:
    if shutil.which("make") is None:
        pytest.skip("no make")
    for line in blocks("console", "Two commands")[0].splitlines():
        target = line.removeprefix("$ make ").split()[0]
        planned = run(["make", "--dry-run", "--always-make", target], ROOT)
        assert ("rrqd --config config/rrq.example.toml" if target == "run" else "-m pytest") in planned


def test_what_init_writes_runs_as_it_is() -> None:
    daemon = empty_daemon()
    app = daemon.folder / "app"
    told = run([*RRQD, "init", str(app)], ROOT)
    assert {file.name for file in app.iterdir()} == set(FILES)
    (app / "rrq.toml").write_text(
        moved((app / "rrq.toml").read_text(), daemon).replace(
            "[rrqd]\n", f'[rrqd]\nembedded_address = "127.0.0.1:{daemon.port}"\n', 1
        )
    )
    for name in FILES:
        (daemon.folder / name).unlink()
        (app / name).rename(daemon.folder / name)
    with daemon:
        daemon.expect_log("rrqd.ready")
        hello = next(line.split() for line in told.splitlines() if line.lstrip().startswith("python "))[:3]
        assert hello == ["python", "jobs.py", "Ada"]
        assert run([sys.executable, *hello[1:]], daemon.folder) == "Hello, Ada!\n"
        assert (daemon.folder / ".rrqd").is_dir()
        assert daemon.stop() == 0


def test_the_promises_about_handlers_name_what_there_is() -> None:
    table = README.partition("## What a handler can do")[2]
    for name in re.findall(r"raises `(\w+)\(", table):
        assert hasattr(exc, name), name
    names = re.findall(r"`(\w+)(?:\(\))?`", table.partition("`request` carries ")[2].partition(".\n")[0])
    assert len(names) == 7
    for name in names:
        assert hasattr(ExecutionRequest, name), name
