"""A file and an environment become settings, or one error that lists every mistake with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from rrqd.config import Loaded, embedded_wanted
from rrqd.config.loader import load, parse, parse_dotenv
from rrqd.exc import ConfigError

FILE = Path("rrq.toml")


def mistakes(text: str, **environ: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, FILE, environ)
    return str(caught.value).splitlines()


def read(text: str, **environ: str) -> Loaded:
    return parse(text, FILE, environ)


MANY_MISTAKES = """\
[rrq]
redis_dsn = "http://u:secret@h"
default_job_timeout_seconds = 99999999
[rrq.routing]
a = 5
[[rrq.cron]]
function_name = "f"
schedule = "* * 99 * *"
[rrqd]
lease_seconds = 0
http = "localhost"
on_timeout = "burry"
processes = 4
[rrqd.pools.default]
proceses = 3
processes = 0
queues = []
handlers = "foo"
[rrqd.pools.other]
queues = ["a", ""]
concurrency = 1.5
[rrqd.pools.third]
handlers = "a:b"
timeout_seconds = 99999999
"""


def test_cron_entries_have_names_of_their_own_and_parameters_that_are_json() -> None:
    one = "[[rrq.cron]]\nfunction_name = 'f'\nschedule = '@daily'\n"
    text = f"{one}name = 'a'\n{one}name = 'a'\ntimezone = 'Mars/Olympus'\n"
    assert mistakes(text) == [
        'rrq.toml:9: [rrq.cron[1]] timezone: "Mars/Olympus" is no time zone; write one like "Europe/Paris"; '
        'got "Mars/Olympus"',
    ]
    text = f"{one}name = 'a'\n{one}name = 'a'\n{one}params = {{ n = [1, {{ x = 2099-01-01 }}] }}\n"
    assert mistakes(text) == [
        'rrq.toml:8: [rrq.cron[1]] name: is the name of an entry above; names must differ; got "a"',
    ]
    (said,) = mistakes(f"{one}tags = ['a', '']\n")
    assert said.startswith("rrq.toml:4: [rrq.cron[0]] tags: ")


def test_entries_under_both_names_of_the_timetable_are_refused_and_none_is_dropped() -> None:
    entry = "function_name = 'f'\nschedule = '@daily'\n"
    assert mistakes(f"[[rrq.cron_jobs]]\n{entry}[[rrq.cron]]\n{entry}") == [
        "rrq.toml:4: [[rrq.cron]]: has entries, and cron_jobs has; write all as [[rrq.cron_jobs]]"
    ]
    assert mistakes(f"[[cron]]\n{entry}[[cron_jobs]]\n{entry}") == [
        "rrq.toml:1: [[cron]]: has entries, and cron_jobs has; write all as [[cron_jobs]]"
    ]


def test_all_mistakes_of_a_file_are_told_at_once_each_with_its_line() -> None:
    assert mistakes(MANY_MISTAKES) == [
        "rrq.toml:2: [rrq] redis_dsn: must start with redis://, rediss://, valkey://, valkeys://, unix:// or "
        'redis+sentinel://; got "http://u:***@h"',
        "rrq.toml:3: [rrq] default_job_timeout_seconds: is above rrqd.max_job_timeout_seconds, which is 31536000",
        "rrq.toml:5: [rrq.routing] a: must be text in quotes; got 5",
        'rrq.toml:8: [rrq.cron[0]] schedule: the day "99" is not within 1-31; got "* * 99 * *"',
        "rrq.toml:10: [rrqd] lease_seconds: must be above 0; got 0",
        'rrq.toml:11: [rrqd] http: must be "host:port" with a port from 0 to 65535, for example "127.0.0.1:9464"; '
        'got "localhost"',
        'rrq.toml:12: [rrqd] on_timeout: must be "retry" or "bury"; got "burry"; did you mean "bury"?',
        "rrq.toml:13: [rrqd] processes: unknown key; it belongs under [rrqd.pools.<name>]",
        'rrq.toml:15: [rrqd.pools.default] proceses: unknown key; did you mean "processes"?',
        "rrq.toml:16: [rrqd.pools.default] processes: must be at least 1; got 0",
        "rrq.toml:17: [rrqd.pools.default] queues: can't be empty",
        'rrq.toml:18: [rrqd.pools.default] handlers: must be "module:object", for example "myapp.jobs:registry"; '
        'got "foo"',
        "rrq.toml:19: [rrqd.pools.other] handlers: missing; needed: where the handlers are: module:object, "
        "a Registry or PythonRunnerSettings",
        "rrq.toml:20: [rrqd.pools.other] queues[1]: a queue name can't be empty",
        "rrq.toml:21: [rrqd.pools.other] concurrency: must be a whole number; got 1.5",
        "rrq.toml:24: [rrqd.pools.third] timeout_seconds: is above rrqd.max_job_timeout_seconds, which is 31536000",
    ]


def test_a_syntax_error_names_file_line_and_column() -> None:
    (line,) = mistakes("[rrq]\nredis_dsn = \n")
    assert line.startswith("rrq.toml:2: not valid TOML: ")
    assert line.endswith("(column 13)")


def test_a_syntax_error_at_the_end_names_the_last_line() -> None:
    (line,) = mistakes('[rrq]\nx = """open\n')
    assert line.startswith("rrq.toml:3: not valid TOML: ")


def test_a_misspelt_table_of_ours_is_not_passed_over() -> None:
    assert mistakes("[rrq]\n[rrdq.pools.x]\nhandlers = 'a:b'\n") == [
        'rrq.toml:2: [rrdq]: unknown table; did you mean "rrqd"?'
    ]


def test_what_stands_beside_the_two_tables_is_other_peoples_business() -> None:
    assert read("[rrq]\n[tool.black]\nline = 1\n").settings.rrqd.pools == {}


def test_tables_that_are_no_tables_are_refused() -> None:
    assert mistakes("rrq = 1\nrrqd = []\n") == [
        "rrq.toml:1: rrq: must be a table: [rrq]",
        "rrq.toml:2: rrqd: must be a table: [rrqd]",
    ]
    assert mistakes("[rrqd]\npools = 3\n") == ["rrq.toml:2: [rrqd] pools: must be a table; got 3"]


def test_without_an_rrq_table_the_whole_file_is_it() -> None:
    loaded = read("default_max_retries = 2\n[rrqd]\nhttp = 'off'\n[runner_routes]\na = 'node'\n")
    assert loaded.settings.rrq.default_max_retries == 2
    assert loaded.settings.rrq.runner_routes == {"a": "node"}
    assert loaded.settings.rrqd.http == "off"
    assert loaded.origins["rrq.default_max_retries"] == "rrq.toml:1"


def test_a_mistake_in_such_a_file_is_named_as_it_stands_there() -> None:
    assert mistakes("default_max_retries = 'x'\n") == [
        'rrq.toml:1: default_max_retries: must be a whole number; got "x"'
    ]


def test_a_plain_rrq_file_with_runners_and_old_names_loads() -> None:
    loaded = read(
        "[rrq]\nworker_concurrency = 4\nexpected_job_ttl = 9\n"
        "[rrq.runners.python]\ntype = 'socket'\ncmd = ['rrq-runner']\ntcp_port = 9000\n"
        "[rrq.routing]\n'rrq:queue:a' = 'python'\n"
        "[[rrq.cron]]\nfunction_name = 'f'\nschedule = '0 * * * * *'\nqueue_name = 'rrq:queue:a'\n"
    )
    rrq = loaded.settings.rrq
    assert rrq.runner_routes == {"a": "python"}
    assert (rrq.cron_jobs[0].function_name, rrq.cron_jobs[0].queue_name) == ("f", "a")
    assert [(name, pool.runner, pool.queues) for name, pool in loaded.settings.rrqd.pools.items()] == [
        ("python", "python", ["a", "default", "python#"])
    ]
    assert loaded.origins["rrq.cron_jobs"] == "rrq.toml:10"


def test_runners_are_checked_as_rrq_checks_them() -> None:
    text = "[rrq.runners.a]\ntcp_port = 65535\npool_size = 2\n[rrq.runners.b]\ncmd = ['x']\ntimeout = 1\n"
    assert mistakes(text) == [
        'rrq.toml:1: [rrq.runners.a] cmd: missing; needed unless runner_management_mode = "external"',
        "rrq.toml:2: [rrq.runners.a] tcp_port: is too high: with pool_size the last process would be above 65535",
        "rrq.toml:4: [rrq.runners.b] tcp_port: missing; needed: port of the first runner process; the others count up",
        "rrq.toml:6: [rrq.runners.b] timeout: unknown key; known ones are type, cmd, pool_size, max_in_flight, env, "
        "cwd, tcp_host, tcp_port, allowed_hosts, response_timeout_seconds",
    ]
    external = "[rrq]\nrunner_management_mode = 'external'\n[rrq.runners.a]\ntcp_port = 9\n"
    assert read(external).settings.rrq.runners["a"].cmd is None


def test_the_environment_replaces_three_keys_and_says_so() -> None:
    loaded = read(
        "[rrq]\nredis_dsn = 'redis://file'\n",
        RRQ_REDIS_DSN="redis://env",
        RRQ_LOG_LEVEL="WARN",
        RRQ_CAPTURE_RUNNER_OUTPUT="yes",
    )
    assert loaded.settings.rrq.redis_dsn == "redis://env"
    assert loaded.settings.rrq.capture_runner_output is True
    assert loaded.settings.rrqd.log_level == "warning"
    assert loaded.origins["rrq.redis_dsn"] == "env RRQ_REDIS_DSN"
    assert loaded.origins["rrqd.log_level"] == "env RRQ_LOG_LEVEL"


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    assert mistakes("", RRQ_LOG_LEVEL="loud") == [
        'env RRQ_LOG_LEVEL: [rrqd] log_level: must be "debug", "info", "warning" or "error"; got "loud"'
    ]


def _credentials(folder: Path, text: str) -> dict[str, str]:
    (folder / "redis_dsn").write_text(text)
    return {"CREDENTIALS_DIRECTORY": str(folder)}


def test_a_credential_names_the_server_where_nothing_else_does(tmp_path: Path) -> None:
    (tmp_path / "rrq.toml").write_text("[rrqd]\n")
    loaded = load(tmp_path / "rrq.toml", _credentials(tmp_path, "redis://:secret@cache/0\n"))
    assert loaded.settings.rrq.redis_dsn == "redis://:secret@cache/0"
    assert loaded.origins["rrq.redis_dsn"] == "credential redis_dsn"
    assert not embedded_wanted(loaded)


@pytest.mark.parametrize(
    ("text", "environ", "wanted"),
    [
        ("[rrq]\nredis_dsn = 'redis://file'\n", {}, "redis://file"),
        ("", {"RRQ_REDIS_DSN": "redis://env"}, "redis://env"),
    ],
)
def test_the_file_and_the_environment_go_before_a_credential(
    tmp_path: Path, text: str, environ: dict[str, str], wanted: str
) -> None:
    (tmp_path / "rrq.toml").write_text(text)
    loaded = load(tmp_path / "rrq.toml", {**_credentials(tmp_path, "redis://credential"), **environ})
    assert loaded.settings.rrq.redis_dsn == wanted


def test_credentials_without_a_server_and_empty_ones_count_as_none(tmp_path: Path) -> None:
    (tmp_path / "rrq.toml").write_text("")
    for environ in ({"CREDENTIALS_DIRECTORY": str(tmp_path / "nothing")}, _credentials(tmp_path, "\n")):
        assert embedded_wanted(load(tmp_path / "rrq.toml", environ))


def test_a_mistake_in_a_credential_names_it_and_does_not_show_it(tmp_path: Path) -> None:
    (tmp_path / "rrq.toml").write_text("")
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "rrq.toml", _credentials(tmp_path, "http://:secret@cache"))
    assert str(caught.value).startswith("credential redis_dsn: redis_dsn: must start with ")
    assert "secret" not in str(caught.value)


def test_every_value_has_an_origin() -> None:
    loaded = read("[rrq]\n[rrqd.pools.a]\nhandlers = 'x:y'\nenvironment = { B = '1' }\n")
    assert loaded.origins["rrqd.pools.a.handlers"] == "rrq.toml:3"
    assert loaded.origins["rrqd.pools.a.environment.B"] == "rrq.toml:4"
    assert loaded.origins["rrqd.pools.a.processes"] == "default"
    assert loaded.origins["rrq.redis_dsn"] == "default"


@pytest.mark.parametrize(
    ("text", "environ", "wanted"),
    [
        ("", {}, True),
        ("[rrq]\nredis_dsn = 'redis://localhost:6379/0'\n", {}, False),
        ("", {"RRQ_REDIS_DSN": "redis://h"}, False),
        ("", {"RRQ_REDIS_DSN": ""}, True),
        ("[rrqd]\nembedded = 'always'\n[rrq]\nredis_dsn = 'redis://h'\n", {}, True),
        ("[rrqd]\nembedded = 'never'\n", {}, False),
    ],
)
def test_a_server_of_our_own_is_started_when_nobody_named_one(text: str, environ: dict[str, str], wanted: bool) -> None:
    assert embedded_wanted(parse(text, FILE, environ)) is wanted


def test_relative_folders_start_from_the_file(tmp_path: Path) -> None:
    text = "[rrqd]\nstate_dir = 'state'\n[rrqd.pools.a]\nhandlers = 'x:y'\ncwd = 'work'\n"
    loaded = parse(text, tmp_path / "rrq.toml", {})
    assert loaded.settings.rrqd.state_dir == tmp_path / "state"
    assert loaded.settings.rrqd.pools["a"].cwd == str(tmp_path / "work")
    assert loaded.folder == tmp_path


def test_the_file_is_the_one_given_else_the_one_in_the_variable_else_the_one_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, retries in (("given.toml", 1), ("variable.toml", 2), ("rrq.toml", 3)):
        (tmp_path / name).write_text(f"[rrq]\ndefault_max_retries = {retries}\n")
    variable = {"RRQ_CONFIG": "variable.toml"}
    assert load("given.toml", variable).settings.rrq.default_max_retries == 1
    assert load(None, variable).settings.rrq.default_max_retries == 2
    assert load(None, {}).settings.rrq.default_max_retries == 3
    assert load(None, {}).path == tmp_path / "rrq.toml"


def test_a_file_that_cannot_be_read_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match="rrqd init"):
        load(None, {})
    with pytest.raises(ConfigError, match=r"gone\.toml: no such file"):
        load("gone.toml", {})
    with pytest.raises(ConfigError, match=r"gone\.toml \(named by RRQ_CONFIG\): no such file"):
        load(None, {"RRQ_CONFIG": "gone.toml"})
    with pytest.raises(ConfigError, match="is a folder"):
        load(str(tmp_path), {})
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load("latin.toml", {})


def test_a_dotenv_file_above_is_read_and_never_replaces_what_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "deep" / "er"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    (tmp_path / ".env").write_text("RRQ_REDIS_DSN=redis://dotenv\nRRQ_LOG_LEVEL=debug\n")
    (inside / "rrq.toml").write_text("")
    loaded = load(None, {"RRQ_LOG_LEVEL": "error"})
    assert loaded.settings.rrq.redis_dsn == "redis://dotenv"
    assert loaded.settings.rrqd.log_level == "error"


def test_dotenv_lines_may_have_quotes_comments_and_export() -> None:
    text = "# c\nA=1\nexport B = \"x\\n#y\" # c\nC='a b'\nD= plain  # c\nE=\nnot a line\nF=a#b\n"
    assert parse_dotenv(text) == {"A": "1", "B": "x\n#y", "C": "a b", "D": "plain", "E": "", "F": "a#b"}
