"""The command line as an operator has it: a daemon that runs, and what comes out of the commands.

`rrqd` calls a command in this process, which takes no time; `program` is the real program, for everything that hangs on
streams, encodings and the end of a process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from rrqd.cli.main import cli
from rrqd.client import SyncRRQClient
from tests.support.app import TOLD
from tests.support.commands import Said
from tests.support.daemon import ROOT, Daemon, quiet_port
from tests.support.wait import until

PAGE = ROOT / "docs" / "cli.md"
NOWHERE = "redis://127.0.0.1:1/0"
ASKING = (
    ("enqueue", "told"), ("status",), ("queue", "list"), ("queue", "inspect", "default"), ("queue", "pause", "default"),
    ("job", "show", "x"), ("job", "list"), ("job", "cancel", "x"), ("dlq", "list"), ("dlq", "requeue", "--all"),
    ("check",),
)  # fmt: skip


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    """One daemon for all: tests keep apart by queue and job id."""
    pool = {"processes": 1, "queues": ["default", "mail"]}
    rrq = {"base_retry_delay_seconds": 0.05}
    with Daemon(http=True, pools={"default": pool}, stand_ins=False, jobs=TOLD, rrq=rrq) as daemon:
        daemon.expect_log("rrqd.ready")
        yield daemon
        assert daemon.stop() == 0


def program(*words: str, stdin: bytes = b"", **environment: str) -> Said:
    """The real program. Whatever happens, it never shows a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "rrqd", *words], cwd=ROOT, input=stdin, capture_output=True, timeout=30, check=False,
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **environment},
    )  # fmt: skip
    return _calm(Said(done.returncode, done.stdout.decode(), done.stderr.decode()))


def command(*words: str, stdin: bytes = b"") -> Said:
    done = CliRunner().invoke(cli, words, input=stdin, prog_name="rrqd")
    assert done.exception is None or isinstance(done.exception, SystemExit)
    return _calm(Said(done.exit_code, done.stdout, done.stderr))


def _calm(said: Said) -> Said:
    assert "Traceback" not in said.err, said.err
    assert "internal error" not in said.err, said.err
    return said


def rrqd(daemon: Daemon, *words: str, stdin: bytes = b"") -> Said:
    return command(*words, *of(daemon), stdin=stdin)


def of(daemon: Daemon) -> tuple[str, str]:
    return ("--config", str(daemon.folder / "rrq.toml"))


def told(do: str = "ok", **words: Any) -> tuple[str, str, str, str]:
    return ("enqueue", "told", "--params", json.dumps({"do": do, **words}))


def enqueued(daemon: Daemon, *words: str) -> str:
    said = rrqd(daemon, *words)
    assert (said.code, said.err) == (0, "")
    assert str(uuid.UUID(said.out.strip())) == said.out.strip()
    return said.out.strip()


def ended(daemon: Daemon, *words: str) -> str:
    """Enqueue and wait; the job's id."""
    return str(rrqd(daemon, *words, "--wait", "--json").data["job_id"])


def client(daemon: Daemon) -> SyncRRQClient:
    return SyncRRQClient(config={"redis_dsn": f"redis://127.0.0.1:{daemon.port}/0"})


def keys_on_page(command: str) -> list[str]:
    """The keys that docs/cli.md promises for a command's JSON."""
    line = next(line for line in PAGE.read_text().splitlines() if line.startswith(f"| `{command}`") and "`, `" in line)
    return re.findall(r"`([^`]+)`", line.split("|")[2])


def one_line(said: Said) -> bool:
    return said.err.count("\n") == 1 and said.err.endswith("\n")


# -- enqueue -----------------------------------------------------------------------------------------------


def test_enqueue_prints_the_id_and_with_wait_the_result(daemon: Daemon) -> None:
    said = program(*told(answer={"é": [1, None]}), "--wait", *of(daemon))
    assert (said.code, said.data) == (0, {"é": [1, None]})
    assert uuid.UUID(said.err.strip())
    assert list(rrqd(daemon, *told(), "--json").data) == ["job_id", "happened"]


def test_waiting_for_a_job_that_fails_ends_with_1_and_its_error(daemon: Daemon) -> None:
    said = program(*told("fail", message="kein \x1b[2JGeld 💸"), "--max-retries", "1", "--wait", *of(daemon))
    assert (said.code, said.out) == (1, "")
    job_id, line = said.err.splitlines()
    assert line == f"job {job_id} is FAILED: kein \\x1b[2JGeld 💸"
    said = rrqd(daemon, *told("fail"), "--max-retries", "1", "--wait", "--json")
    assert said.code == 1
    assert list(said.data) == keys_on_page("enqueue --wait")
    assert (said.data["status"], said.data["error"], said.data["result"]) == ("FAILED", "told to fail", None)


def test_waiting_longer_than_allowed_ends_with_75_and_the_job_goes_on(daemon: Daemon) -> None:
    said = rrqd(daemon, *told("sleep", seconds=1), "--wait", "--wait-timeout", "0.1")
    job_id, line = said.err.splitlines()
    assert (said.code, said.out) == (75, "")
    assert line == f"job {job_id} has not ended within 0.1 s; look again with: rrqd job show {job_id}"
    with client(daemon) as asking:
        end = asking.wait_for_completion(job_id, timeout_seconds=10)
        assert end is not None
        assert end.result == "slept"


def test_params_come_from_the_line_a_file_or_stdin(daemon: Daemon, tmp_path: Path) -> None:
    text = json.dumps({"do": "ok", "answer": "日本"}, ensure_ascii=False).encode()
    (tmp_path / "params.json").write_bytes(text)
    for source, stdin in ((f"@{tmp_path / 'params.json'}", b""), ("-", text)):
        said = program("enqueue", "told", "--params", source, "--wait", *of(daemon), stdin=stdin)
        assert (said.code, said.data) == (0, "日本"), said.err


def test_params_that_are_wrong_are_one_line_and_nothing_is_enqueued(daemon: Daemon, tmp_path: Path) -> None:
    (tmp_path / "latin1.json").write_bytes(b'{"name": "caf\xe9"}')
    for params, words in (
        ('{"do": "ok"', "--params: not valid JSON: "),
        ("[1]", '--params: must be a JSON object, like {"name": "Ada"}'),
        ('{"a": NaN}', "--params cannot be written as JSON: nan is not a JSON number"),
        (f"@{tmp_path / 'gone.json'}", "gone.json: No such file or directory"),
        (f"@{tmp_path}", "Is a directory"),
        (f"@{tmp_path / 'latin1.json'}", "--params: not UTF-8 text"),
    ):
        said = rrqd(daemon, "enqueue", "told", "--queue", "untouched", "--params", params)
        assert (said.code, said.out, one_line(said)) == (2, "", True)
        assert said.err.startswith("rrqd enqueue: ")
        assert words in said.err
    assert "untouched" not in {row["queue"] for row in rrqd(daemon, "queue", "list", "--json").data}


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--timeout", "0"], "--timeout must be positive"),
        (["--delay", "nan"], "--delay must be a number >= 0, not nan"),
        (["--at", "tomorrow"], "--at is not an RFC 3339 time: 'tomorrow'"),
        (["--max-retries", "0"], "--max-retries: 0 is not in the range x>=1"),
        (["--queue", " "], "--queue cannot be blank"),
        (["--dsn", "http://x"], "--dsn: "),
        (["--jsn"], "no such option '--jsn'"),
    ],
)
def test_an_option_that_is_wrong_is_named_as_it_was_written(daemon: Daemon, words: list[str], line: str) -> None:
    said = rrqd(daemon, "enqueue", "told", *words)
    assert (said.code, said.out, one_line(said)) == (2, "", True)
    assert said.err.startswith(f"rrqd enqueue: {line}")
    assert said.err.endswith("; see rrqd enqueue --help\n")


def test_a_unique_key_answers_the_id_of_who_holds_it_and_a_taken_id_is_refused(daemon: Daemon) -> None:
    first = enqueued(daemon, *told(), "--unique", "nightly", "--delay", "600")
    again = rrqd(daemon, *told(), "--unique", "nightly")
    assert (again.code, again.out, again.err) == (0, f"{first}\n", "no new job: this one has the unique key\n")
    said = rrqd(daemon, *told(), "--job-id", first)
    assert (said.code, said.out, one_line(said)) == (1, "", True)
    assert first in said.err


def test_what_an_enqueue_came_to_is_told(daemon: Daemon) -> None:
    limit = ["--rate-limit", "cli-user", "--rate-limit-seconds", "600", "--delay", "600", "--json"]
    burst = ["--debounce", "cli-doc", "--debounce-seconds", "600"]
    unique = ["--unique", "cli-once", "--unique-until", "finished", "--unique-ttl", "600", "--delay", "600", "--json"]

    assert [rrqd(daemon, *told(), *limit).data["happened"] for _ in range(2)] == ["created", "limited"]
    assert [rrqd(daemon, *told(), *unique).data["happened"] for _ in range(2)] == ["created", "duplicate"]
    first = rrqd(daemon, *told(), *burst, "--trace", "a=b=c", "--result-ttl", "9")
    again = rrqd(daemon, *told(), *burst)
    assert (first.code, first.err, again.code, again.out) == (0, "", 0, first.out)
    assert again.err == "no new job: this one had not started, and is now what was asked for\n"
    shown = rrqd(daemon, "job", "show", first.out.strip(), "--json").data
    assert (shown["status"], shown["queue"]) == ("PENDING", "default")

    said = rrqd(daemon, *told(), "--debounce", "k")
    assert (said.code, said.err) == (2, "rrqd enqueue: --debounce-seconds is required; see rrqd enqueue --help\n")
    both = rrqd(daemon, *told(), *burst, *limit[:4])
    assert "--rate-limit and --debounce are mutually exclusive" in both.err


# -- looking -----------------------------------------------------------------------------------------------


def test_status_shows_server_daemon_nodes_and_queues(daemon: Daemon) -> None:
    enqueued(daemon, *told(), "--queue", "nobody serves this")
    said = program("status", *of(daemon), http_proxy=f"http://127.0.0.1:{quiet_port()}")
    assert (said.code, said.err) == (0, "")
    assert re.search(rf"(?m)^server +\w+ [\d.]+ at redis://127.0.0.1:{daemon.port}/0$", said.out)
    assert re.search(r"(?m)^daemon +well, at http://127", said.out)
    assert "default: 1 of 1 workers ready; queues default, mail" in said.out
    assert re.search(r"(?m)^[\w-]+ +1\d\.\d s +1 +\d+$", said.out), said.out
    assert re.search(r"(?m)^nobody serves this +1 +0 +0 +\d+\.\d$", said.out), said.out
    data = rrqd(daemon, "status", "--json").data
    assert sorted(data) == sorted(keys_on_page("status"))
    assert data["daemon"]["ok"]
    assert [node["workers"] for node in data["nodes"]] == [1]


def test_a_server_without_a_node_is_seen(daemon: Daemon) -> None:
    empty = f"redis://127.0.0.1:{daemon.port}/9"
    said = rrqd(daemon, "status", "--dsn", empty)
    assert said.code == 1
    assert "no node has a lease" in said.out
    checked = rrqd(daemon, "check", "--dsn", empty)
    assert (checked.code, checked.out) == (1, "Worker Health Check: FAIL (No active workers found)\n")
    assert rrqd(daemon, "check", "--dsn", empty, "--json").data == {"ok": False, "workers": []}


def test_check_lists_the_workers(daemon: Daemon) -> None:
    found = until(lambda: rrqd(daemon, "check", "--json").data["workers"], 10, "the first health record")
    assert found[0]["worker_id"].startswith("rrqd_")
    said = rrqd(daemon, "check")
    assert said.code == 0
    assert said.out.startswith("Worker Health Check: OK (1 active)\n")
    assert list(rrqd(daemon, "check", "--json").data) == keys_on_page("check")


def test_queues_tell_due_jobs_from_later_ones(daemon: Daemon) -> None:
    later = enqueued(daemon, *told(), "--queue", "mail", "--delay", "600")
    last = enqueued(daemon, *told(), "--queue", "rrq:queue:mail", "--at", "2999-01-01T00:00:00Z")
    rows = {row["queue"]: row for row in rrqd(daemon, "queue", "list", "--json").data}
    assert list(rows["mail"]) == keys_on_page("queue list")
    assert rows["mail"] == {
        "queue": "mail", "due": 0, "scheduled": 2, "dependent": 0, "oldest_due_seconds": 0.0, "paused": False,
    }  # fmt: skip
    assert re.search(r"(?m)^mail +0 +2 +0 +0\.0$", rrqd(daemon, "queue", "list").out)
    inspected = rrqd(daemon, "queue", "inspect", "mail", "--json").data
    assert [row["id"] for row in inspected] == [later, last]
    assert list(inspected[0]) == keys_on_page("queue inspect")
    said = rrqd(daemon, "queue", "inspect", "mail", "--limit", "1", "--offset", "1")
    assert last in said.out
    assert later not in said.out
    said = rrqd(daemon, "queue", "inspect", "no such queue")
    assert (said.code, said.out) == (1, "")
    assert said.err == 'rrqd: there is no queue "no such queue"; rrqd queue list shows all\n'
    assert 'did you mean "mail"?' in rrqd(daemon, "queue", "inspect", "mial").err
    rrqd(daemon, "job", "cancel", later, last)
    empty = rrqd(daemon, "queue", "inspect", "mail")
    assert (empty.code, empty.out, empty.err) == (0, "", "no jobs wait in queue mail\n")
    assert "mail" not in {row["queue"] for row in rrqd(daemon, "queue", "list", "--hide-empty", "--json").data}


def test_a_paused_queue_waits_for_resume(daemon: Daemon) -> None:
    assert rrqd(daemon, "queue", "pause", "mail").out == "mail  paused\n"
    job_id = enqueued(daemon, *told(), "--queue", "mail")
    ended(daemon, *told())  # the neighbour's are run
    assert rrqd(daemon, "job", "show", job_id, "--json").data["status"] == "PENDING"
    assert re.search(r"(?m)^mail .* paused$", rrqd(daemon, "queue", "list").out)
    assert rrqd(daemon, "queue", "pause", "mail", "--json").data == {"mail": False}
    assert rrqd(daemon, "queue", "resume", "rrq:queue:mail").out == "mail  resumed\n"
    with client(daemon) as asking:
        assert asking.wait_for_completion(job_id, timeout_seconds=10) is not None
    assert rrqd(daemon, "queue", "pause", "mial").code == 1


def test_a_job_is_shown_whole_and_steers_no_terminal(daemon: Daemon) -> None:
    job_id = ended(daemon, *told("fail", message="erste\nzweite \x1b[2J\x07Zeile 日本"), "--max-retries", "1")
    said = rrqd(daemon, "job", "show", job_id)
    assert (said.code, said.err) == (0, "")
    assert "\x1b" not in said.out
    assert "\x07" not in said.out
    assert re.search(r"(?m)^last_error +erste\n +zweite \\x1b\[2J\\x07Zeile 日本$", said.out), said.out
    assert re.search(r"(?m)^traceback +Traceback", said.out)
    assert re.search(r"(?m)^error +ValueError$", said.out)
    data = rrqd(daemon, "job", "show", job_id, "--json").data
    assert list(data) == keys_on_page("job show")
    assert data["error"]["type"] == "ValueError"
    assert rrqd(daemon, "job", "show", job_id, "--raw", "--json").data["status"] == "FAILED"
    missing = rrqd(daemon, "job", "show", "nobody", "--json")
    assert (missing.code, missing.out) == (1, "")
    assert missing.err == "rrqd: there is no job nobody (it may have expired)\n"


def test_jobs_are_listed_and_filtered(daemon: Daemon) -> None:
    waiting = enqueued(daemon, *told(), "--queue", "listed", "--delay", "600")
    done = ended(daemon, "enqueue", "told_plain", "--params", '{"do": "ok"}')
    buried = ended(daemon, "enqueue", "told_plain", "--params", '{"do": "fail"}', "--max-retries", "1")

    def ids(*words: str) -> list[str]:
        return [row["id"] for row in rrqd(daemon, "job", "list", "--json", *words).data]

    assert ids("--queue", "listed") == [waiting]
    assert ids("--function", "told_plain") == [buried]
    assert ids("--function", "told_plain", "--status", "completed") == [done]
    assert set(ids("--function", "told_plain", "--scan", "--since", "1h")) == {done, buried}
    assert rrqd(daemon, "job", "list", "--since", "yesterday").code == 2
    assert list(rrqd(daemon, "job", "list", "--json").data[0]) == keys_on_page("job list")
    said = rrqd(daemon, "job", "list", "--limit", "1")
    assert said.out.splitlines()[0].split() == ["id", "function", "queue", "status", "attempts", "enqueued", "error"]
    assert len(said.out.splitlines()) == 2
    assert said.err.startswith("1 from number 1;")
    with client(daemon) as asking:  # more than a look at one place of the server's table shows
        asking.enqueue_many([("told", {"queue_name": "crowd", "defer_by_seconds": 600})] * 100)
    assert "--max-scan" in rrqd(daemon, "job", "list", "--scan", "--max-scan", "1", "--status", "cancelled").err


# -- moves -------------------------------------------------------------------------------------------------


def test_cancel_says_for_each_job_what_came_of_it(daemon: Daemon) -> None:
    waiting = enqueued(daemon, *told(), "--delay", "600")
    runs = enqueued(daemon, *told("sleep", seconds=60))
    done = ended(daemon, *told())
    with client(daemon) as asking:
        until(lambda: getattr(asking.get_job_status(runs), "status", "") == "ACTIVE", 10, "the job to run")
        said = rrqd(daemon, "job", "cancel", waiting, runs)
        assert said.code == 0
        assert f"{waiting}  cancelled\n" in said.out
        assert f"{runs}  runs; its worker was asked to stop it\n" in said.out
        end = asking.wait_for_completion(runs, timeout_seconds=10)
        assert end is not None
        assert end.status == "CANCELLED"
    said = rrqd(daemon, "job", "cancel", done, "nobody", "--json")
    assert said.code == 1
    assert said.data == {done: "too-late", "nobody": "unknown"}


def test_buried_jobs_are_brought_back_by_filter(daemon: Daemon) -> None:
    once = ("--queue", "mail", "--max-retries", "1")
    by_error = ended(daemon, *told("fail", message="Platte voll"), *once)
    others = [ended(daemon, *told("fail"), *once), ended(daemon, *told("fail"), *once)]
    listed = rrqd(daemon, "dlq", "list", "--json").data
    assert list(listed) == keys_on_page("dlq list")
    assert [row["id"] for row in listed["jobs"][:3]] == [others[1], others[0], by_error]
    said = rrqd(daemon, "dlq", "list", "--limit", "1", "--offset", "2")
    assert by_error in said.out
    assert "Platte voll" in said.out

    refused = rrqd(daemon, "dlq", "requeue", "--limit", "1")
    assert (refused.code, one_line(refused)) == (2, True)
    mail = ("dlq", "requeue", "--queue", "mail")
    dry = rrqd(daemon, *mail, "--dry-run")
    assert (dry.code, dry.out) == (0, "would requeue 3 jobs to their own queues\n")
    assert rrqd(daemon, "dlq", "list", "--json").data["total"] == listed["total"]

    moved = rrqd(daemon, *mail, "--error", "Platte", "--target-queue", "elsewhere", "--json").data
    assert list(moved) == keys_on_page("dlq requeue")
    assert moved == {"matched": 1, "requeued": 1, "dry_run": False, "job_ids": [by_error]}
    assert rrqd(daemon, "queue", "inspect", "elsewhere", "--json").data[0]["status"] == "PENDING"

    oldest = rrqd(daemon, *mail, "--limit", "1", "--target-queue", "elsewhere")
    assert oldest.out == "requeued 1 job to queue elsewhere\n"
    assert [row["id"] for row in rrqd(daemon, "queue", "inspect", "elsewhere", "--json").data] == [by_error, others[0]]

    named = rrqd(daemon, "dlq", "requeue", "--job-id", others[1], "--job-id", "nobody", "--function", "told")
    assert (named.code, named.out) == (1, "requeued 1 job to its own queue\n")
    assert named.err == "not in the dead-letter queue: nobody\n"
    with client(daemon) as asking:
        end = asking.wait_for_completion(others[1], timeout_seconds=10)
        assert end is not None
        assert end.status == "FAILED"  # it ran again, and did what it was told


# -- what may go wrong -------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_a_server_that_cannot_be_reached_is_one_line_and_69(tmp_path: Path, words: tuple[str, ...]) -> None:
    text = f'[rrq]\nredis_dsn = "{NOWHERE}"\n[rrqd]\nhttp = "off"\nstate_dir = "{tmp_path}/state"\n'
    (tmp_path / "rrq.toml").write_text(text)
    said = command(*words, "--config", str(tmp_path / "rrq.toml"))
    assert (said.code, said.out, one_line(said)) == (69, "", True)
    assert f"Cannot reach {NOWHERE}: Connection refused" in said.err


def test_status_tells_the_daemons_view_though_the_server_is_out_of_reach(daemon: Daemon) -> None:
    said = rrqd(daemon, "status", "--dsn", NOWHERE, "--json")
    assert (said.code, one_line(said)) == (69, True)
    assert sorted(said.data) == sorted(keys_on_page("status"))
    assert (said.data["server"], said.data["daemon"]["ok"]) == (None, True)
    assert "daemon  well, at http://" in rrqd(daemon, "status", "--dsn", NOWHERE).out


def test_a_terminal_without_the_letters_gets_them_spelled_out(daemon: Daemon) -> None:
    answer = {"text": "日本 😀"}
    said = program(*told(answer=answer), "--wait", *of(daemon), PYTHONIOENCODING="latin-1")
    assert (said.code, said.data) == (0, answer)
    assert said.out.isascii()
    job_id = ended(daemon, *told("fail", message="日本"), "--max-retries", "1")
    shown = program("job", "show", job_id, *of(daemon), PYTHONIOENCODING="latin-1")
    assert (shown.code, shown.err) == (0, "")
    assert r"\u65e5\u672c" in shown.out


@pytest.mark.parametrize("redirect", ["| true", ">&-", ">&- 2>&-"])
def test_a_reader_that_is_not_there_is_no_error(daemon: Daemon, redirect: str) -> None:
    line = f'"$0" -m rrqd --config "$1" job list --json --scan {redirect}; exit "${{PIPESTATUS[0]}}"'
    done = subprocess.run(
        ["bash", "-c", line, sys.executable, str(daemon.folder / "rrq.toml")], capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_full_disk_is_one_line(daemon: Daemon) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "rrqd", "--config", str(daemon.folder / "rrq.toml"), "queue", "list"],
            stdout=full, stderr=subprocess.PIPE, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, b"rrqd: No space left on device\n")


def test_ctrl_c_ends_the_waiting_and_not_the_job(daemon: Daemon) -> None:
    words = [sys.executable, "-m", "rrqd", *told("sleep", seconds=60), "--wait", *of(daemon)]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as waiting:
        assert waiting.stderr is not None
        job_id = waiting.stderr.readline().decode().strip()
        waiting.send_signal(signal.SIGINT)
        out, err = waiting.communicate(timeout=10)
    assert (waiting.returncode, out, err.strip()) == (130, b"", b"")
    assert rrqd(daemon, "job", "show", job_id, "--json").data["status"] in ("PENDING", "ACTIVE")
    assert rrqd(daemon, "job", "cancel", job_id).code == 0


def test_mistyped_commands_are_one_line_with_a_hint() -> None:
    for words, line in (
        (["enqeue"], 'rrqd: there is no command "enqeue"; did you mean "enqueue"?; see rrqd --help\n'),
        (["job", "shw"], "rrqd job: no such command 'shw'"),
        (["enqueue"], "rrqd enqueue: missing argument 'NAME'; see rrqd enqueue --help\n"),
    ):
        said = program(*words)
        assert (said.code, said.out, one_line(said)) == (2, "", True)
        assert said.err.startswith(line.removesuffix("\n"))


# -- the daemon's own configuration ------------------------------------------------------------------------

HANDLERS = '[rrqd.pools.default]\nhandlers = "{}:registry"\n'


def start(folder: Path, text: str, state: Path | None = None) -> Said:
    """The daemon on a file that can't work, until it ends."""
    own = f'[rrq]\nredis_dsn = "{NOWHERE}"\n[rrqd]\nstate_dir = "{state or folder / "state"}"\nlog_format = "json"\n'
    own += "" if "http =" in text else 'http = "off"\n'
    (folder / "rrq.toml").write_text(own + text)
    (folder / "raises.py").write_text("raise ValueError('no key')\n")
    return program("--config", str(folder / "rrq.toml"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('stat_dir = "x"\n', 'rrq.toml:7: [rrqd] stat_dir: unknown key; did you mean "state_dir"?'),
        ("lease_seconds = true\n", "rrq.toml:7: [rrqd] lease_seconds: must be a number; got true"),
        ("lease_seconds = = 1\n", "rrq.toml:7: not valid TOML: "),
    ],
)
def test_a_mistake_in_the_file_is_one_line_with_its_place_and_78(tmp_path: Path, text: str, line: str) -> None:
    said = start(tmp_path, text)
    assert (said.code, said.out, one_line(said)) == (78, "", True)
    assert said.err.startswith(f"{tmp_path}/{line}")


@pytest.mark.parametrize(
    ("module", "words"),
    [
        ("no_such_module", 'there is no module "no_such_module"'),
        ("raises", "failed: ValueError: no key ("),
    ],
)
def test_handlers_that_can_not_be_imported_are_one_line_and_78(tmp_path: Path, module: str, words: str) -> None:
    said = start(tmp_path, HANDLERS.format(module))
    assert said.code == 78
    failed = [event for event in map(json.loads, said.err.splitlines()) if event["event"] == "start.failed"]
    assert len(failed) == 1
    assert f'handlers = "{module}:registry"' in failed[0]["error"]
    assert words in failed[0]["error"]


def test_what_is_taken_is_one_line_that_names_the_key_and_1(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with socket.create_server(("127.0.0.1", quiet_port())) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        embedded = f'embedded = "always"\nembedded_address = "{address}"\n'
        for said, words in (
            (start(tmp_path, f'http = "{address}"\n'), f"rrqd.http = {address}: Address already in use"),
            (start(tmp_path, embedded), f"the embedded server's address {address} is in use"),
            (start(tmp_path, "", tmp_path / "file"), f"state_dir {tmp_path / 'file'} can't be used"),
        ):
            assert (said.code, one_line(said)) == (1, True)
            event = json.loads(said.err)
            assert event["event"] == "start.failed"
            assert words in event["error"]
