"""Commands that look at jobs and move them, on a server without a daemon: what they say, and what they leave behind."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from click.testing import CliRunner

from rrqd.cli.main import cli
from tests.support.commands import Said
from tests.support.server import Server

PAGE = Path(__file__).parents[2] / "docs" / "cli.md"
#: A name and an error as a stranger might give them: they steer terminals, look like markup, are cut badly by bytes.
HOSTILE = "\x1b[2J[red]naïve[/] 日本語💥\x07\r\n[/bold]" + "é" * 200
DAY = 86_400


class Desk:
    """An operator at a server: commands, and a look behind them."""

    def __init__(self, server: Server, folder: Path) -> None:
        self.redis = redis.Redis(port=server.port, decode_responses=True)
        self.config = folder / "rrq.toml"
        self.config.write_text(f'[rrq]\nredis_dsn = "{server.dsn}"\n[rrqd]\nhttp = "off"\n')

    def __call__(self, *words: str) -> Said:
        done = CliRunner().invoke(cli, [*words, "--config", str(self.config)], prog_name="rrqd")
        assert done.exception is None or isinstance(done.exception, SystemExit)
        for text in (done.stdout, done.stderr):
            assert "internal error" not in text, text
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f]", text), text
        return Said(done.exit_code, done.stdout, done.stderr)

    def enqueue(self, *words: str, function: str = "f") -> str:
        return self("enqueue", function, *words).out.strip()

    def bury(self, job_id: str, error: str = "boom", queue: str = "default", function: str = "f", **fields: str) -> str:
        """A job that ended in the DLQ, as the real worker leaves one."""
        known = {
            "id": job_id, "function_name": function, "status": "FAILED", "queue_name": f"rrq:queue:{queue}",
            "enqueue_time": "2026-01-31T12:00:00+00:00", "start_time": "2026-01-31T12:00:01.5+00:00",
            "completion_time": "2026-01-31T12:00:04+00:00", "last_error": error, "current_retries": "3",
        }  # fmt: skip
        self.redis.hset(f"rrq:job:{job_id}", mapping={**known, **fields})
        self.redis.expire(f"rrq:job:{job_id}", 7 * DAY)
        self.redis.xadd(f"rrq:events:job:{job_id}", {"event": "failed", "job_id": job_id, "status": "FAILED"})
        self.redis.lpush("rrq:dlq:default", job_id)
        return job_id


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    own = Server()
    try:
        yield own
    finally:
        own.remove()


@pytest.fixture
def rrqd(server: Server, tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(server, tmp_path)
    desk.redis.flushall()
    yield desk
    desk.redis.close()


def keys_on_page(command: str) -> list[str]:
    """The keys that docs/cli.md promises for a command's JSON."""
    rows = [line.split("|") for line in PAGE.read_text().splitlines() if line.startswith("| `") and "`, `" in line]
    cells = next(cells for cells in rows if f"`{command}`" in cells[1] and "--" not in cells[1])
    return re.findall(r"`([^`]+)`", cells[2])


# -- job ---------------------------------------------------------------------------------------------------


def test_a_replay_is_a_new_job_with_all_that_the_old_one_asked_for(rrqd: Desk) -> None:
    """The real command keeps function, parameters and queue only."""
    old = rrqd.enqueue("--params", '{"é": [1]}', "--queue", "mail", "--max-retries", "7", "--timeout", "11")
    rrqd.redis.hset(f"rrq:job:{old}", mapping={"trace_context": '{"traceparent":"00-a"}', "result_ttl_seconds": "60"})

    dry = rrqd("job", "replay", old, "--dry-run")
    new = rrqd("job", "replay", old).out.strip()

    assert dry.out == "would enqueue f in queue mail\n"
    assert new != old
    stored = [rrqd.redis.hgetall(f"rrq:job:{one}") for one in (old, new)]
    kept = ("function_name", "job_params", "queue_name", "max_retries", "job_timeout_seconds", "result_ttl_seconds",
            "trace_context")  # fmt: skip
    assert [stored[1][name] for name in kept] == [stored[0][name] for name in kept]
    assert rrqd.redis.zcard("rrq:queue:mail") == 2
    said = rrqd("job", "replay", old, "--params", '{"b": 2}', "--queue", "other", "--json")
    assert list(said.data) == keys_on_page("job replay")
    assert rrqd.redis.hget(f"rrq:job:{said.data['job_id']}", "job_params") == '{"b": 2}'
    classic = {
        "id": "classic",
        "function_name": "f",
        "job_args": "[1, 2]",
        "job_kwargs": '{"a": 3}',
        "rrqd_tags": '["x"]',
    }
    rrqd.redis.hset("rrq:job:classic", mapping={**classic, "status": "COMPLETED", "rrqd_priority": "5"})
    like = rrqd.redis.hgetall(f"rrq:job:{rrqd('job', 'replay', 'classic').out.strip()}")
    assert [like[name] for name in ("job_args", "job_kwargs", "rrqd_tags", "rrqd_priority")] == [
        "[1, 2]",
        '{"a": 3}',
        '["x"]',
        "5",
    ]
    assert rrqd("job", "replay", "nobody").err == "rrqd: there is no job nobody (it may have expired)\n"


def test_retry_brings_a_buried_job_back_and_says_what_the_others_are(rrqd: Desk) -> None:
    rrqd.bury("a")
    waiting = rrqd.enqueue()
    rrqd.bury("lost")
    rrqd.redis.lrem("rrq:dlq:default", 0, "lost")

    said = rrqd("job", "retry", "a", waiting, "nobody", "lost", "--json")

    assert said.code == 1
    assert said.data == {"a": "queued", waiting: "PENDING", "nobody": "unknown", "lost": "not-buried"}
    assert rrqd.redis.hgetall("rrq:job:a") | {"status": "PENDING", "current_retries": "0"} == rrqd.redis.hgetall(
        "rrq:job:a"
    )
    assert rrqd("job", "retry", "a").out == "a  is PENDING, not buried\n"


def test_a_trace_tells_the_steps_in_order_and_no_time_is_negative(rrqd: Desk) -> None:
    rrqd.bury("a", "no disk")
    rrqd.bury("skewed", start_time="2026-01-31T11:00:00+00:00")

    rows = rrqd("job", "trace", "a", "--json").data["events"]

    assert list(rrqd("job", "trace", "a", "--json").data) == keys_on_page("job trace")[:3]
    assert [(row["event"], row["after_seconds"]) for row in rows[:2]] == [("enqueued", None), ("started", 1.5)]
    assert rows[2]["detail"] == "FAILED: no disk"
    shown = rrqd("job", "trace", "a").out
    assert re.search(r"(?m)^started +2026-01-31T12:00:01.500000\+00:00 +\+1.5 s", shown), shown
    skewed = rrqd("job", "trace", "skewed", "--json").data["events"]
    assert all((row["after_seconds"] or 0) >= 0 for row in skewed)
    later = rrqd.enqueue("--delay", "600")
    assert [row["event"] for row in rrqd("job", "trace", later, "--json").data["events"]] == ["enqueued", "due"]
    assert rrqd("job", "trace", "nobody").code == 1
    rrqd.redis.hset("rrq:job:timeless", mapping={"function_name": "f"})
    assert rrqd("job", "trace", "timeless").err == "nothing is stored of when anything happened to it\n"


def test_get_prints_fields_for_scripts(rrqd: Desk) -> None:
    job_id = rrqd.enqueue("--params", '{"n": 1}')

    assert rrqd("job", "get", job_id, "status", "params", "result").out == 'PENDING\n{"n": 1}\n\n'
    assert rrqd("job", "get", job_id).data == rrqd("job", "show", job_id, "--json").data
    said = rrqd("job", "get", job_id, "stats")
    assert (said.code, said.err.startswith('rrqd job get: FIELD: no field is called "stats"; there are id, ')) == (
        2,
        True,
    )
    assert rrqd("job", "get", "nobody", "status").code == 1


def test_lists_are_paged_and_look_only_where_such_jobs_can_be(rrqd: Desk) -> None:
    waiting = [rrqd.enqueue("--queue", "mail") for _ in range(5)]
    rrqd.bury("a")
    rrqd.redis.config_resetstat()

    def ids(*words: str) -> list[str]:
        return [row["id"] for row in rrqd("job", "list", "--json", *words).data]

    assert ids("--queue", "mail", "--limit", "2", "--offset", "2") == waiting[2:4]
    assert ids("--status", "failed") == ["a"]
    assert "cmdstat_scan" not in rrqd.redis.info("commandstats")


def test_jobs_that_nobody_runs_are_listed_and_put_back(rrqd: Desk) -> None:
    """As RRQ 0.3 leaves one when its worker is killed."""
    rrqd.redis.hset("rrq:job:stuck", mapping={"id": "stuck", "function_name": "f", "status": "ACTIVE"})

    assert list(rrqd("job", "stranded", "--json").data) == keys_on_page("job stranded")
    assert rrqd("job", "stranded").err == "--revive puts them back into their queues\n"
    assert rrqd.redis.hget("rrq:job:stuck", "status") == "ACTIVE"
    assert rrqd("job", "stranded", "--revive", "--json").data["revived"] == ["stuck"]
    assert rrqd.redis.zscore("rrq:queue:default", "stuck") is not None
    assert rrqd("job", "stranded").err == "no stranded jobs\n"


# -- dlq ---------------------------------------------------------------------------------------------------


def test_buried_jobs_are_listed_by_filter_raw_and_paged(rrqd: Desk) -> None:
    for n in range(6):
        rrqd.bury(f"j{n}", queue="mail" if n % 2 else "default", error=f"error {n}", function="g" if n > 3 else "f")

    def ids(*words: str) -> list[str]:
        return [row["id"] for row in rrqd("dlq", "list", "--json", *words).data["jobs"]]

    assert ids() == ["j5", "j4", "j3", "j2", "j1", "j0"]
    assert ids("--queue", "mail", "--batch-size", "1") == ["j5", "j3", "j1"]
    assert ids("--queue", "mail", "--limit", "1", "--offset", "1") == ["j3"]
    assert ids("--function", "g", "--error", "error 4") == ["j4"]
    assert ids("--limit", "2", "--offset", "4", "--batch-size", "1") == ["j1", "j0"]
    raw = json.loads(rrqd("dlq", "list", "--raw", "--limit", "1").out)
    assert raw == [rrqd.redis.hgetall("rrq:job:j5")]
    assert rrqd("dlq", "list", "--limit", "2").err == "2 of 6; --offset and --limit show others\n"


def test_stats_of_buried_jobs(rrqd: Desk) -> None:
    for n in range(3):
        rrqd.bury(f"j{n}", queue="mail", completion_time=f"2026-01-0{n + 1}T00:00:00+00:00", error="disk full")
    rrqd.redis.lpush("rrq:dlq:default", "expired")

    data = rrqd("dlq", "stats", "--json").data

    assert list(data) == keys_on_page("dlq stats")
    assert (data["total"], data["expired"], data["attempts_average"]) == (4, 1, 3.0)
    assert (data["oldest"], data["newest"]) == ("2026-01-01T00:00:00+00:00", "2026-01-03T00:00:00+00:00")
    assert (data["queues"], data["errors"]) == ({"mail": 3}, {"disk full": 3})
    assert rrqd("dlq", "stats", "--max-scan", "2").err.startswith("looked at the 2 oldest of 4")


def test_inspect_shows_what_is_buried_and_nothing_else(rrqd: Desk) -> None:
    rrqd.bury("a", error="why")
    waiting = rrqd.enqueue()

    assert rrqd("dlq", "inspect", "a", "--json").data["last_error"] == "why"
    assert rrqd("dlq", "inspect", "a", "--raw", "--json").data["status"] == "FAILED"
    said = rrqd("dlq", "inspect", waiting)
    assert (said.code, said.err) == (1, f"rrqd: job {waiting} is not in the dead-letter queue; it is PENDING\n")
    assert rrqd("dlq", "inspect", "nobody").err.endswith("there is no such job\n")


def test_retry_all_and_purge(rrqd: Desk) -> None:
    for n in range(4):
        rrqd.bury(f"j{n}", queue="mail" if n else "default")
    rrqd.redis.lpush("rrq:dlq:default", "expired")

    assert rrqd("dlq", "retry-all", "--queue", "mail", "--limit", "1").out == "requeued 1 job to its own queue\n"
    assert rrqd("dlq", "purge", "--limit", "1").code == 2
    assert rrqd("dlq", "purge", "--queue", "mail", "--dry-run").out == "would remove 2 jobs\n"
    assert rrqd.redis.llen("rrq:dlq:default") == 4
    said = rrqd("dlq", "purge", "--queue", "mail", "--json")
    assert list(said.data) == keys_on_page("dlq purge")
    assert said.data == {"matched": 2, "removed": 2, "dry_run": False, "job_ids": ["j2", "j3"]}
    assert rrqd.redis.exists("rrq:job:j2", "rrq:events:job:j2") == 0
    missing = rrqd("dlq", "purge", "--job-id", "expired")
    assert (missing.code, missing.err) == (1, "not in the dead-letter queue: expired\n")
    assert rrqd("dlq", "purge", "--all").out == "removed 2 jobs\n"  # the entry that has expired, too
    assert rrqd.redis.llen("rrq:dlq:default") == 0
    assert rrqd.redis.hget("rrq:job:j1", "status") == "PENDING"


# -- queue -------------------------------------------------------------------------------------------------


def test_stats_of_queues_are_exact_where_an_index_can_tell(rrqd: Desk) -> None:
    rrqd.enqueue("--queue", "mail")
    rrqd.enqueue("--queue", "mail", "--delay", "600")
    rrqd.bury("a", queue="mail")
    rrqd.bury("done", queue="mail", status="COMPLETED", last_error="")

    (row,) = rrqd("queue", "stats", "--queue", "mail", "--json").data

    assert list(row) == keys_on_page("queue stats")
    assert [row[name] for name in ("due", "scheduled", "active", "buried", "completed")] == [1, 1, 0, 1, 1]
    assert (row["wait_seconds_average"], row["run_seconds_average"]) == (1.5, 2.5)
    said = rrqd("queue", "stats", "--max-scan", "1")
    assert said.err.startswith("looked at 1 job for ended ones;")
    assert rrqd("queue", "stats", "--queue", "mial").err == 'rrqd: there is no queue "mial"; did you mean "mail"?\n'


# -- debug -------------------------------------------------------------------------------------------------


def test_made_up_jobs_look_real_and_are_found_again(rrqd: Desk) -> None:
    mine = rrqd.enqueue()
    assert rrqd("debug", "generate-jobs", "--count", "60", "--batch-size", "7", "--queue", "demo").code == 0
    found = {row["status"] for row in rrqd("job", "list", "--scan", "--limit", "100", "--json").data}
    assert {"PENDING", "COMPLETED", "FAILED"} <= found
    assert rrqd("dlq", "stats", "--json").data["total"] > 0

    said = rrqd("debug", "clear")
    assert (said.out, said.err) == ("would remove 60 jobs\n", "nothing was removed; --confirm does it\n")
    assert list(rrqd("debug", "clear", "--dry-run", "--confirm", "--json").data) == keys_on_page("debug clear")
    assert rrqd("debug", "clear", "--confirm").out == "removed 60 jobs\n"
    left = {key for key in rrqd.redis.keys("rrq:*") if not key.startswith("rrq:queue:default")}
    assert left == {f"rrq:job:{mine}"}


def test_made_up_workers_are_seen_while_they_live(rrqd: Desk) -> None:
    said = rrqd("debug", "generate-workers", "--count", "2", "--duration", "0", "--json")
    assert len(said.data["workers"]) == 2
    assert rrqd("health").code == 1  # they are gone, and nobody takes them for alive


def test_submit_and_stress_test(rrqd: Desk) -> None:
    job_id = rrqd("debug", "submit", "f", "--args", "[1, 2]", "--kwargs", '{"a": 3}', "--delay", "5").out.strip()
    assert rrqd("job", "get", job_id, "params").out == '{"a": 3, "args": [1, 2]}\n'
    assert rrqd("debug", "submit", "f", "--args", "{}").err.startswith(
        'rrqd debug submit: --args: must be like [1, "two"]'
    )
    said = rrqd("debug", "stress-test", "--jobs-per-second", "200", "--duration", "0.3", "--queues", "x", "--json")
    assert list(said.data) == keys_on_page("debug stress-test")
    assert said.data["jobs"] == rrqd.redis.zcard("rrq:queue:x")
    assert 30 <= said.data["jobs"] <= 61
    assert rrqd("debug", "generate-job").err.startswith("rrqd debug: no such command 'generate-job'")


# -- whatever is stored ------------------------------------------------------------------------------------


LOOKS = (
    ("job", "show", HOSTILE), ("job", "show", HOSTILE, "--raw"), ("job", "get", HOSTILE, "function", "last_error"),
    ("job", "trace", HOSTILE), ("job", "list"), ("job", "list", "--queue", HOSTILE), ("queue", "list"),
    ("queue", "stats"), ("queue", "inspect", HOSTILE), ("queue", "pause", HOSTILE), ("dlq", "list"),
    ("dlq", "list", "--raw"), ("dlq", "stats"), ("dlq", "inspect", HOSTILE), ("job", "retry", HOSTILE),
    ("job", "replay", HOSTILE), ("job", "cancel", HOSTILE), ("dlq", "requeue", "--job-id", HOSTILE), ("status",),
    ("dlq", "purge", "--job-id", HOSTILE), ("job", "log", HOSTILE), ("job", "deps", HOSTILE), ("job", "tags"),
    ("job", "tag", HOSTILE, "red"), ("job", "untag", HOSTILE, "red"), ("job", "track", HOSTILE), ("stats", HOSTILE),
    ("job", "priority", HOSTILE, "5"), ("throttle", "show", HOSTILE), ("throttle", "delete", HOSTILE),
    ("cron", "next", HOSTILE), ("cron", "run", HOSTILE), ("debug", HOSTILE), ("scale", HOSTILE), (HOSTILE,),
    ("queue", "stats", "--queue", HOSTILE), ("debug", "submit", HOSTILE, "--kwargs", HOSTILE),
)  # fmt: skip


@pytest.mark.parametrize("words", LOOKS, ids=lambda words: " ".join(words).replace(HOSTILE, "X"))
def test_no_text_breaks_a_command_or_steers_a_terminal(rrqd: Desk, words: tuple[str, ...]) -> None:
    """Control characters are shown escaped (``Desk`` looks for them), markup is shown as it is."""
    rrqd.bury(HOSTILE, error=HOSTILE, queue=HOSTILE, function=HOSTILE, job_params=json.dumps({HOSTILE: HOSTILE}))
    rrqd.redis.zadd(f"rrq:queue:{HOSTILE}", {HOSTILE: 1})

    for said in (rrqd(*words), rrqd(*words, "--json")):
        assert said.code in (0, 1, 2)
        assert ("[red]" in said.out) == ("ve[/]" in said.out)


FIELDS = (
    "enqueue_time", "start_time", "completion_time", "next_scheduled_run_time", "current_retries", "max_retries",
    "job_timeout_seconds", "result", "job_params", "job_args", "job_kwargs", "status", "queue_name", "dlq_name",
    "trace_context", "worker_id", "rrqd_token", "rrqd_error", "rrqd_progress", "rrqd_tags", "rrqd_priority",
    "rrqd_throttles", "rrqd_rate", "rrqd_parents", "rrqd_step", "rrqd_policy", "rrqd_stalls", "rrqd_place",
)  # fmt: skip


@pytest.mark.parametrize(
    "nonsense", ["", "null", "[]", "{}", "-1", "1e999", "nonsense", '{"a": [1]}', "9" * 30, "\xff"]
)
def test_nothing_that_is_stored_breaks_a_command(rrqd: Desk, nonsense: str) -> None:
    rrqd.redis.hset("rrq:job:x", mapping={**dict.fromkeys(FIELDS, nonsense), "function_name": "f"})
    rrqd.redis.zadd("rrq:queue:default", {"x": 1})
    rrqd.redis.lpush("rrq:dlq:default", "x")
    for line in (
        "job show x", "job get x", "job trace x", "job list --scan", "job stranded", "queue list", "queue stats",
        "dlq list", "dlq stats", "dlq inspect x", "job replay x --dry-run", "job retry x", "job deps x", "job log x",
        "status", "dlq requeue --all --dry-run", "job cancel x", "dlq purge --all", "debug clear --pattern x --confirm",
    ):  # fmt: skip
        assert rrqd(*line.split()).code in (0, 1), line


def on_a_terminal(*words: str, **environment: str) -> str:
    """What the program writes when its output is a terminal of 200 columns."""
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(ours, (50, 200))
    known = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "COLUMNS", "LINES")}
    try:
        with subprocess.Popen(
            [sys.executable, "-m", "rrqd", *words], stdin=subprocess.DEVNULL, stdout=theirs, stderr=subprocess.DEVNULL,
            env={**known, "TERM": "xterm-256color", **environment},
        ) as program:  # fmt: skip
            os.close(theirs)
            text = b""
            while True:
                try:
                    part = os.read(ours, 65536)
                except OSError:  # nobody has the other end any more
                    break
                if not part:
                    break
                text += part
            assert program.wait(30) == 0
    finally:
        os.close(ours)
    return text.decode()


def test_only_on_a_terminal_there_is_colour_and_markup_means_nothing_there(rrqd: Desk) -> None:
    rrqd.bury("[bold]id[/]", error="[red]error[/red] \x1b[31m", function="[link=http://x]f[/link]")
    words = ("dlq", "list", "--config", str(rrqd.config))

    shown = on_a_terminal(*words)

    assert "\x1b[1m" in shown, "the head is bold"
    assert "\x1b[31m" not in shown
    for text in ("[bold]id[/]", "[link=http://x]f[/link]", "[red]error[/red] \\x1b[31m"):
        assert text in shown
    assert "\x1b" not in on_a_terminal(*words, NO_COLOR="1")


def test_a_name_that_is_no_text_is_one_line(rrqd: Desk) -> None:
    said = rrqd("job", "show", "\udcff")
    assert (said.code, said.err.count("\n")) == (1, 1)
