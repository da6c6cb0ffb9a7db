"""The first process of a container: rrqd is PID 1 of a namespace of its own, and nobody reaps for it.

Also what a job leaves behind: programs of its own, in the worker's process group and out of it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import psutil
import pytest

from rrqd.supervisor.process import state_letter
from tests.support.daemon import ROOT, Daemon, alive, quiet_port
from tests.support.wait import until

ALONE = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


def _why_not() -> str:
    if shutil.which("unshare") is None:
        return "unshare (util-linux) is not installed"
    done = subprocess.run([*ALONE, "true"], capture_output=True, text=True)
    return f"a PID namespace can't be had here: {done.stderr.strip()}" if done.returncode else ""


WHY_NOT = _why_not()
needs_namespace = pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "it can be had")
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


class Container(Daemon):
    """A daemon as PID 1. `pid` is its number outside; the log has the numbers inside."""

    prefix = ALONE
    first = 0

    @property
    def pid(self) -> int:
        """`unshare` waits for it and ends as it ends."""

        def inner() -> list[int]:
            assert self.process is not None
            if self.process.poll() is not None:
                return [self.process.pid]  # too late to see it
            return [one.pid for one in psutil.Process(self.process.pid).children()]

        if not self.first:
            self.first = until(inner, 5, "the first process of the namespace")[0]
        return self.first

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def everybody(self) -> list[int]:
        return [self.pid, *(one.pid for one in psutil.Process(self.pid).children(recursive=True))]


@needs_namespace
def test_as_pid_1_it_reaps_the_orphans_of_jobs_whoever_they_are() -> None:
    with Container(http=True, log_level="debug") as daemon:
        assert daemon.expect_log("rrqd.ready")["pid"] == 1
        # The shell ends at once; what it has started ends later, and belongs to nobody but PID 1 by then.
        daemon.order("run", argv=["/bin/sh", "-c", "(sleep 0.2; exit 3) & (setsid sleep 0.2) & exit 0"])
        until(lambda: daemon.view().get("strangers", 0) >= 2, 10, "two strangers to be reaped")
        assert daemon.count_log("stranger.reaped", code=3) == 1
        assert [pid for pid in daemon.everybody() if state_letter(pid) == "Z"] == []
        assert daemon.count_log("worker.died") == 0
        assert daemon.stop() == 0


@needs_namespace
def test_as_pid_1_it_drains_at_term_and_takes_everything_with_it() -> None:
    with Container() as daemon:
        daemon.expect_log("rrqd.ready")
        daemon.order("run", argv=["/bin/sh", "-c", "setsid sleep 600 & exit 0"], slot="default.1")
        until(lambda: [one for one in daemon.lines("jobs") if one["did"] == "end"], 5, "the escaped program to run")
        daemon.order("wait", seconds=0.5, job_id="last", slot="default.0")
        until(lambda: [one for one in daemon.lines("jobs") if one["job_id"] == "last"], 5, "the job's begin")
        everybody = daemon.everybody()
        assert len(everybody) == 6
        assert daemon.stop() == 0
        assert [one["did"] for one in daemon.lines("jobs") if one["job_id"] == "last"] == ["begin", "end"]
        until(lambda: not any(alive(pid) for pid in everybody), 5, "the namespace to be empty")


@needs_namespace
def test_as_pid_1_its_exit_code_is_the_container_s() -> None:
    with Container(jobs="import nothing_of_that_name\n") as daemon:
        assert daemon.wait() == 78


def test_what_a_job_has_started_dies_with_its_worker() -> None:
    with Daemon() as daemon:
        daemon.expect_log("rrqd.ready")
        program = f"echo $$ > {daemon.state}/program; exec sleep 600"
        daemon.order("run", argv=["/bin/sh", "-c", program], slot="default.0")
        pid = int(until(lambda: _text(daemon.state / "program"), 5, "the program to run"))
        worker = daemon.workers()["worker default/0 g1"]
        assert os.getpgid(pid) == worker
        os.kill(worker, signal.SIGKILL)
        until(lambda: not alive(pid), 5, "the program to be gone")
        daemon.expect_log("worker.died", slot=0)
        assert daemon.stop() == 0


def _text(path: Path) -> str:
    return path.read_text().strip() if path.exists() else ""


# -- what the image runs -----------------------------------------------------------------------------------


def _image() -> dict[str, str]:
    """The instructions of the Dockerfile's last stage."""
    text = re.sub(r"(?m)^#.*\n", "", (ROOT / "Dockerfile").read_text()).replace("\\\n", " ")
    lines = text[text.rindex("\nFROM ") :].strip().splitlines()
    return {word: rest for word, _, rest in (line.partition(" ") for line in lines if line)}


class Image(Container):
    """The image's command as the image's user, with its environment, on a file that lies where the image looks."""

    def __init__(self) -> None:
        # Not in a folder of root's own; and the settings of a container: no state_dir, all addresses.
        folder = Path(tempfile.mkdtemp(prefix="rrqd-test-"))
        super().__init__(folder=folder, stand_ins=False, http=f"0.0.0.0:{quiet_port()}", stop_timeout_seconds=5.0)
        del self.rrqd["state_dir"]
        self.write_config()
        said = _image()
        user, _, group = said["USER"].partition(":")
        # The interpreter of a test may lie in a home that nobody else may enter; nothing else of root's is kept.
        self.become = (
            "setpriv", f"--reuid={user}", f"--regid={group}", "--clear-groups", "--no-new-privs",
            "--bounding-set=-all,+dac_read_search", "--inh-caps=-all,+dac_read_search",
            "--ambient-caps=-all,+dac_read_search",
        )  # fmt: skip
        variables = dict(one.split("=", 1) for one in said["ENV"].split())
        assert variables.keys() == {"PYTHONUNBUFFERED", "STATE_DIRECTORY", "RRQ_CONFIG"}
        self.environment = {
            **variables, "STATE_DIRECTORY": str(self.state), "RRQ_CONFIG": str(folder / "rrq.toml"), "HOME": "/nowhere",
        }  # fmt: skip
        self.state.mkdir(mode=0o700)
        os.chown(self.state, int(user), int(group))
        folder.chmod(0o755)
        self.command = [_program(word) for word in [*json.loads(said["ENTRYPOINT"]), *json.loads(said["CMD"])]]
        check = json.loads(said["HEALTHCHECK"].partition("CMD ")[2])
        self.check = [sys.executable, *check[1:]]

    def start(self) -> Daemon:
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [*ALONE, *self.become, *self.command],
                cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], **self.environment}, start_new_session=True,
            )  # fmt: skip
        return self

    def healthy(self) -> tuple[int, str]:
        """Exit code and words of the image's health check."""
        done = subprocess.run(
            [*self.become, *self.check],
            cwd=self.folder, env={"PATH": os.environ["PATH"], **self.environment},
            capture_output=True, text=True, timeout=15,
        )  # fmt: skip
        return done.returncode, (done.stdout + done.stderr).strip()


def _program(word: str) -> str:
    """Ours, where the image has it on its PATH."""
    return str(Path(sys.executable).with_name(word)) if word == "rrqd" else word


@needs_namespace
@needs_root
def test_the_image_s_command_and_health_check_work_for_its_user_as_pid_1() -> None:
    daemon = Image()
    assert daemon.healthy()[0] == 1  # nobody answers yet
    with daemon:
        assert daemon.expect_log("rrqd.ready")["pid"] == 1
        assert daemon.healthy() == (0, "")
        for pid in daemon.everybody():
            status = Path(f"/proc/{pid}/status").read_text()
            assert re.search(r"^Uid:\s+10001\s+10001\s+10001\s+10001$", status, re.MULTILINE)
        everybody = daemon.everybody()
        assert daemon.stop() == 0
        assert daemon.healthy()[0] == 1
        until(lambda: not any(alive(pid) for pid in everybody), 5, "the namespace to be empty")
