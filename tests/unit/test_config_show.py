"""What `config show` and `config schema` are made of: complete, readable again, and free of secrets."""

from __future__ import annotations

import json
from pathlib import Path

from rrqd.config.loader import parse
from rrqd.config.show import as_rows, as_toml, json_schema

FILE = Path("/etc/rrq.toml")
TEXT = """\
[rrq]
redis_dsn = "rediss://u:hunter2@h:1/0"
[rrqd.pools.a]
handlers = "x:y"
environment = { DB_PASSWORD = "hunter2", URL = "postgres://u:hunter2@h/d", MODE = "fast" }
"""


def test_no_secret_is_shown() -> None:
    loaded = parse(TEXT, FILE, {})
    assert "hunter2" not in as_toml(loaded)
    assert "hunter2" not in repr(as_rows(loaded))
    rows = {row.key: row.value for row in as_rows(loaded)}
    assert rows["rrq.redis_dsn"] == "rediss://u:***@h:1/0"
    assert rows["rrqd.pools.a.environment.DB_PASSWORD"] == "***"
    assert rows["rrqd.pools.a.environment.URL"] == "postgres://u:***@h/d"
    assert rows["rrqd.pools.a.environment.MODE"] == "fast"


def test_the_toml_shown_gives_the_same_settings_again() -> None:
    loaded = parse("[rrqd.pools.a]\nhandlers = 'x:y'\nisolation = 'process'\n", FILE, {})
    assert parse(as_toml(loaded), FILE, {}).settings == loaded.settings


def test_each_row_says_where_its_value_comes_from() -> None:
    rows = {row.key: row.origin for row in as_rows(parse(TEXT, FILE, {"RRQ_LOG_LEVEL": "debug"}))}
    assert rows["rrq.redis_dsn"] == "/etc/rrq.toml:2"
    assert rows["rrqd.log_level"] == "env RRQ_LOG_LEVEL"
    assert rows["rrqd.lease_seconds"] == "default"


def test_the_schema_describes_every_key_and_refuses_unknown_ones() -> None:
    schema = json_schema()
    for name in ("RRQSettings", "DaemonSettings", "PoolSettings", "RunnerSettings"):
        table = schema["$defs"][name]
        assert table["additionalProperties"] is False
        assert all("description" in key for key in table["properties"].values()), name
    assert schema["$defs"]["RRQSettings"]["properties"]["routing"]["deprecated"] is True


def test_the_schema_knows_no_null() -> None:
    schema = json_schema()
    assert "null" not in json.dumps(schema)
    timeout = schema["$defs"]["PoolSettings"]["properties"]["timeout_seconds"]
    assert (timeout["type"], timeout["exclusiveMinimum"]) == ("number", 0)
