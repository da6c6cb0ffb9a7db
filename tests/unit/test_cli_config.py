"""The command line as an operator meets it: exit codes, where the words go, and never a traceback."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from rrqd.cli import main as cli_main
from rrqd.cli import output
from rrqd.exc import ConfigError, StoreRefused, StoreUnavailable


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, and an environment without RRQ's variables."""
    monkeypatch.chdir(tmp_path)
    for name in ("RRQ_CONFIG", "RRQ_REDIS_DSN", "RRQ_LOG_LEVEL", "RRQ_CAPTURE_RUNNER_OUTPUT", "RRQD_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def rrqd(*arguments: str) -> Result:
    return CliRunner().invoke(cli_main.cli, arguments, prog_name="rrqd")


def with_pool(folder: Path, code: str, more: str = "") -> None:
    """A configuration whose pool takes its handlers from `code`."""
    (folder / "tasks.py").write_text(code)
    (folder / "rrq.toml").write_text(f"[rrqd.pools.default]\nhandlers = 'tasks:registry'\n{more}")


GOOD = "from rrqd.registry import Registry\nregistry = Registry()\nregistry.register('hello', print)\n"


def test_init_writes_files_that_pass_the_check(here: Path) -> None:
    assert rrqd("init", "app").exit_code == 0
    checked = rrqd("config", "check", "--config", "app/rrq.toml")
    assert checked.exit_code == 0, checked.stderr
    assert "(hello)" in checked.stdout


def test_init_leaves_files_alone_that_are_there(here: Path) -> None:
    (here / "jobs.py").write_text("mine")
    refused = rrqd("init")
    assert refused.exit_code == 1
    assert "jobs.py already there" in refused.stderr
    assert (here / "jobs.py").read_text() == "mine"
    assert not (here / "rrq.toml").exists()
    assert rrqd("init", "--force").exit_code == 0
    assert (here / "jobs.py").read_text() != "mine"


def test_check_reports_what_each_pool_would_run(here: Path) -> None:
    with_pool(here, GOOD)
    checked = rrqd("config", "check")
    assert checked.exit_code == 0
    assert "1 handler (hello) in tasks:registry; queues default" in checked.stdout
    data = json.loads(rrqd("config", "check", "--json").stdout)
    assert data["ok"] is True
    assert data["pools"]["default"]["handlers"] == ["hello"]


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("import nothing_of_that_name", 'needs "nothing_of_that_name"'),
        ("raise ValueError('boo')", "ValueError: boo"),
        ("import os\nos._exit(7)", "importing ended the process (exit code 7)"),
        ("import os\nos.kill(os.getpid(), 11)", "importing ended the process (killed by SIGSEGV)"),
        ("import threading\nthreading.Event().wait()", "took longer than boot_timeout_seconds (1.5)"),
        ("print('noise')", 'has no "registry"'),
    ],
)
def test_a_module_that_fails_in_any_way_is_one_line_and_78(here: Path, code: str, sentence: str) -> None:
    seconds = 1.5 if "took longer" in sentence else 60  # a busy machine may need more for those that do end
    with_pool(here, code, f"[rrqd]\nboot_timeout_seconds = {seconds}\n")
    checked = rrqd("config", "check")
    assert checked.exit_code == 78
    assert checked.stderr.startswith("rrq.toml:2: [rrqd.pools.default] ")
    assert sentence in checked.stderr
    assert checked.stderr.count("\n") == 1


def test_a_child_that_a_module_leaves_behind_does_not_hold_up_the_check(here: Path) -> None:
    with_pool(here, GOOD + "import subprocess\nsubprocess.Popen(['sleep', '600'], close_fds=False)\n")
    assert rrqd("config", "check").exit_code == 0


def test_check_gives_a_pool_its_environment_and_folder(here: Path) -> None:
    (here / "work").mkdir()
    code = GOOD + "import os\nregistry.register(os.environ['WHO'] + '@' + os.path.basename(os.getcwd()), print)\n"
    with_pool(here, code, "environment = { WHO = 'ada' }\ncwd = 'work'\npreload = ['json']\n")
    checked = rrqd("config", "check")
    assert "ada@work" in checked.stdout, checked.stderr


WARMUP = "warmup = ['tasks:warm']\n"


def test_check_prints_what_each_import_costs_and_leaves(here: Path) -> None:
    with_pool(here, GOOD + "def warm(): ...\n", f"preload = ['json.tool']\n{WARMUP}")
    checked = rrqd("config", "check")
    assert checked.exit_code == 0, checked.stderr
    lines = checked.stdout.splitlines()
    assert "imported before the fork: mold default (pools default)" in lines
    head = next(number for number, line in enumerate(lines) if line.startswith("import "))
    assert lines[head].split() == [
        "import", "seconds", "memory", "threads", "sockets", "loops", "children", "verdict",
    ]  # fmt: skip
    rows = [line.split("  ")[0] for line in lines[head + 1 : head + 7]]
    assert rows == ["rrqd.runtime", "json.tool", "tasks", "warmup tasks:warm", "fork", "total"]
    assert all(line.endswith("  ok") for line in lines[head + 1 : head + 7])
    steps = json.loads(rrqd("config", "check", "--json").stdout)["molds"]["default"]["imports"]
    assert [step["import"] for step in steps] == rows
    assert steps[-1]["seconds"] == pytest.approx(sum(step["seconds"] for step in steps[:-1]), abs=0.01)
    assert steps[0]["memory_bytes"] > 1_000_000


def test_pools_with_the_same_code_are_imported_once(here: Path) -> None:
    with_pool(here, GOOD, "[rrqd.pools.second]\nhandlers = 'tasks:registry'\nqueues = ['b']\n")
    checked = rrqd("config", "check")
    assert [line[:12] for line in checked.stdout.splitlines() if line.startswith("pool")] == [
        "pool default", "pool second:",
    ]  # fmt: skip
    assert "mold default (pools default, second)" in checked.stdout
    data = json.loads(rrqd("config", "check", "--json").stdout)
    assert list(data["molds"]) == ["default"]
    assert data["pools"]["second"]["mold"] == "default"
    with_pool(here, GOOD, f"[rrqd.pools.second]\nhandlers = 'tasks:registry'\n{WARMUP}")
    (here / "tasks.py").write_text(GOOD + "def warm(): ...\n")
    assert list(json.loads(rrqd("config", "check", "--json").stdout)["molds"]) == ["default", "second"]


THREAD = "threading.Thread(target=threading.Event().wait, name='poller', daemon=True).start()\n"


@pytest.mark.parametrize(
    ("code", "more", "line"),
    [
        (f"import threading\n{THREAD}", "", "rrq.toml:2: [rrqd.pools.default] importing tasks leaves a thread"),
        (
            f"import threading\ndef warm(): {THREAD}",
            WARMUP,
            "rrq.toml:3: [rrqd.pools.default] warmup tasks:warm leaves a thread running (poller); start it",
        ),
        (
            "import os, threading\nos.register_at_fork(before=threading.Event().wait)\n",
            "",
            "rrq.toml:2: [rrqd.pools.default] a fork takes longer than 1 s: an at-fork hook hangs",
        ),
    ],
)
def test_what_a_fork_would_break_is_one_line_with_what_to_do(here: Path, code: str, more: str, line: str) -> None:
    with_pool(here, GOOD + code, more)
    checked = rrqd("config", "check")
    assert checked.exit_code == 78
    assert checked.stderr.startswith(line)
    assert "on_startup" in checked.stderr
    assert checked.stderr.count("\n") == 1
    assert "refused" in checked.stdout
    data = json.loads(rrqd("config", "check", "--json").stdout)
    assert [step["verdict"] for step in data["molds"]["default"]["imports"]].count("refused") == 2  # it, and the sum
    assert (data["ok"], len(data["problems"])) == (False, 1)


def test_what_works_and_is_seldom_meant_is_a_warning_and_0(here: Path) -> None:
    with_pool(here, GOOD + "import socket\nlistener = socket.create_server(('127.0.0.1', 0))\n")
    checked = rrqd("config", "check")
    assert checked.exit_code == 0
    assert checked.stderr.startswith(
        "warning: rrq.toml:2: [rrqd.pools.default] importing tasks opens a network connect"
    )
    assert len(json.loads(rrqd("config", "check", "--json").stdout)["warnings"]) == 1


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        ("def warm():\n    raise ValueError('boo\\nhoo')", "warm raised ValueError: boo (FOLDER/tasks.py:5)"),
        ("def warm(): raise SystemExit(3)", "warm raised SystemExit: 3 (FOLDER/tasks.py:4)"),
        ("def warm(connection): ...", "warm raised TypeError: warm() missing 1 required positional argument"),
        ("async def warm(): ...", "is async, and before the fork there is no event loop; call it in on_startup"),
        ("warm = {}", "is a dict, not a function"),
        ("def warn(): ...", 'has no "warm"; did you mean "warn"?'),
        ("def heat(): ...", 'has no "warm"; it has heat'),
    ],
)
def test_a_warmup_that_can_not_be_called_is_one_line_and_78(here: Path, code: str, sentence: str) -> None:
    with_pool(here, GOOD + code, WARMUP)
    checked = rrqd("config", "check")
    assert checked.exit_code == 78
    assert checked.stderr.startswith('rrq.toml:3: [rrqd.pools.default] warmup = "tasks:warm": ')
    assert sentence.replace("FOLDER", str(here)) in checked.stderr
    assert checked.stderr.count("\n") == 1


def test_libraries_find_the_number_of_threads_that_the_daemon_would_give_them(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    code = GOOD + "import os\nregistry.register('+'.join(map(os.environ.get, NAMES)), print)\n"
    names = "NAMES = ['OPENBLAS_NUM_THREADS', 'OMP_NUM_THREADS', 'MKL_NUM_THREADS']\n"
    with_pool(here, names + code, "processes = 1000\nenvironment = { MKL_NUM_THREADS = '3' }\n")
    assert "1+7+3" in json.loads(rrqd("config", "check", "--json").stdout)["pools"]["default"]["handlers"]


def test_what_an_environment_holds_is_for_nobody_else_to_read(here: Path) -> None:
    code = (
        GOOD + "registry.register('told' if b'hunter2' in open('/proc/self/cmdline', 'rb').read() else 'kept', print)\n"
    )
    with_pool(here, code, "environment = { PASSWORD = 'hunter2' }\n")
    assert "kept" in rrqd("config", "check").stdout


def test_check_names_a_folder_that_is_not_there(here: Path) -> None:
    with_pool(here, GOOD, "cwd = 'gone'\n")
    checked = rrqd("config", "check")
    assert checked.exit_code == 78
    assert checked.stderr.startswith("rrq.toml:3: [rrqd.pools.default] cwd = ")


def test_mistakes_in_the_file_end_every_command_with_78(here: Path) -> None:
    (here / "bad.toml").write_text("[rrqd]\nhtpp = 1\nlease_seconds = 0\n")
    for arguments in (["config", "check"], ["config", "show"], []):
        result = rrqd("--config", "bad.toml", *arguments)
        assert result.exit_code == 78
        assert result.stderr.splitlines() == [
            'bad.toml:2: [rrqd] htpp: unknown key; did you mean "http"?',
            "bad.toml:3: [rrqd] lease_seconds: must be above 0; got 0",
        ]
    data = json.loads(rrqd("config", "check", "--json", "-c", "bad.toml").stdout)
    assert (data["ok"], len(data["problems"])) == (False, 2)


def test_show_prints_values_with_their_origins(here: Path) -> None:
    (here / "rrq.toml").write_text("[rrq]\nredis_dsn = 'redis://:hunter2@h/0'\n")
    shown = rrqd("config", "show")
    assert "hunter2" not in shown.stdout
    line = next(line for line in shown.stdout.splitlines() if line.startswith("rrq.redis_dsn "))
    assert line.split() == ["rrq.redis_dsn", "rrq.toml:2", "redis://:***@h/0"]
    assert tomllib.loads(rrqd("config", "show", "--toml").stdout)["rrqd"]["lease_seconds"] == 15.0
    data = json.loads(rrqd("config", "show", "--json").stdout)
    assert data["origins"]["rrq.redis_dsn"] == "rrq.toml:2"
    assert rrqd("config", "show", "--json", "--toml").exit_code == 2


def test_the_schema_is_json() -> None:
    assert json.loads(rrqd("config", "schema").stdout)["title"] == "rrq.toml"


def test_the_config_option_may_stand_on_either_side(here: Path) -> None:
    (here / "other.toml").write_text("[rrq]\ndefault_max_retries = 2\n")
    for arguments in (
        ["-c", "other.toml", "config", "show", "--json"],
        ["config", "show", "--json", "-c", "other.toml"],
    ):
        assert json.loads(rrqd(*arguments).stdout)["settings"]["rrq"]["default_max_retries"] == 2


def test_a_mistyped_command_gets_a_suggestion_and_2() -> None:
    result = rrqd("confg")
    assert result.exit_code == 2
    assert 'did you mean "config"?' in result.stderr
    assert rrqd("config", "show", "--jsn").exit_code == 2


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (ConfigError("rrq.toml:1: x\nrrq.toml:2: y"), 78, "rrq.toml:1: x\nrrq.toml:2: y\n"),
        (StoreUnavailable("no answer from h:1"), 69, "rrqd: no answer from h:1\n"),
        (StoreRefused("out of memory"), 1, "rrqd: out of memory\n"),
        (PermissionError(13, "Permission denied", "/x"), 1, "rrqd: /x: Permission denied\n"),
    ],
)
def test_errors_are_lines_and_codes(monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, text: str) -> None:
    def failing() -> None:
        raise error

    monkeypatch.setattr(cli_main.LazyGroup, "get_command", lambda *_: click.Command("x", callback=failing))
    result = rrqd("x")
    assert (result.exit_code, result.stderr) == (code, text)


def test_an_error_of_ours_is_no_traceback_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing() -> None:
        raise TypeError("oops")

    monkeypatch.setattr(cli_main.LazyGroup, "get_command", lambda *_: click.Command("x", callback=failing))
    monkeypatch.delenv("RRQD_TRACEBACK", raising=False)
    result = rrqd("x")
    assert result.exit_code == 1
    assert result.stderr.startswith("rrqd: internal error: TypeError: oops (test_cli_config.py:")
    assert "Traceback" not in result.stderr
    monkeypatch.setenv("RRQD_TRACEBACK", "1")
    assert "Traceback" in rrqd("x").stderr


def test_the_help_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom rrqd.cli.main import cli\n"
        "try: cli.main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'pydantic', 'redis', 'rich', 'asyncio', 'structlog'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "config" in result.stdout


def test_a_reader_that_has_seen_enough_is_no_error(here: Path) -> None:
    (here / "rrq.toml").write_text("")
    read_end, write_end = os.pipe()
    os.close(read_end)  # nobody will ever read
    result = subprocess.run(
        [sys.executable, "-m", "rrqd", "config", "schema"], stdout=write_end, stderr=subprocess.PIPE, check=False
    )
    os.close(write_end)
    assert (result.returncode, result.stderr) == (0, b"")


def test_tables_are_plain_columns_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    output.table(["name", "n"], [["a", 1], ["long name", None]])
    assert capsys.readouterr().out == "name       n\na          1\nlong name\n"
    output.fields({"a": 1, "long": None})
    assert capsys.readouterr().out == "a     1\nlong\n"


def test_colour_needs_a_terminal_and_no_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert output.use_colour()
    monkeypatch.setenv("NO_COLOR", "1")
    assert not output.use_colour()


def test_check_tells_of_runners_and_of_programs_that_are_not_there(here: Path) -> None:
    table = "[rrq.runners.{0}]\ncmd = ['{1}', 'r.js']\ntcp_port = 9000\npool_size = 2\nmax_in_flight = 8\n"
    (here / "rrq.toml").write_text(table.format("good", sys.executable))
    checked = rrqd("config", "check")
    assert checked.exit_code == 0
    assert f"pool good: runner good: {sys.executable} r.js; queues good#; 2 × 8 jobs" in checked.stdout
    (here / "rrq.toml").write_text("[rrq]\n" + table.format("bad", "no-such-program"))
    checked = rrqd("config", "check")
    assert checked.exit_code == 78
    assert checked.stderr.endswith(
        "\nrrq.toml:3: [rrq.runners.bad] cmd: there is no program no-such-program, or it can't be executed\n"
    )


def test_check_warns_of_queues_that_get_jobs_and_no_worker(here: Path) -> None:
    with_pool(here, GOOD)
    with (here / "rrq.toml").open("a") as file:
        file.write("queues = ['mail']\n[[rrq.cron_jobs]]\nfunction_name = 'hello'\nschedule = '@daily'\n")
        file.write("queue_name = 'male'\n[[rrq.cron_jobs]]\nname = 'b'\nfunction_name = 'hello'\n")
        file.write("schedule = '@daily'\nqueue_name = 'mail'\n")
    checked = rrqd("config", "check")
    assert checked.exit_code == 0
    assert checked.stderr.splitlines() == [
        'warning: [rrq] default_queue_name: no pool serves "default"; its jobs wait, unless another machine takes them',
        'warning: [rrq.cron_jobs] hello: queue_name: no pool serves "male"; its jobs wait, unless another machine '
        "takes them",
    ]
