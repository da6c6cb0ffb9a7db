"""The settings in force: as rows with origins, as TOML, as JSON; and the JSON Schema of the file.

Nothing here prints a secret: passwords in DSNs become `***`, and so do values of environment variables whose
name says that they are secret.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import tomli_w

from rrqd.config.loader import Loaded
from rrqd.config.settings import Settings
from rrqd.redact import redact

HIDDEN = "***"

_SECRET_NAME = re.compile(r"PASS|SECRET|TOKEN|CREDENTIAL|API_?KEY|PRIVATE|ACCESS_?KEY", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Row:
    """One key in force: its dotted name, its value (redacted), and where that comes from."""

    key: str
    value: Any
    origin: str


def as_tables(loaded: Loaded) -> dict[str, Any]:
    """All settings as plain nested tables, redacted; keys without a value are left out, as TOML has no null."""
    tables: dict[str, Any] = _presentable(loaded.settings.model_dump(mode="json"), "")
    return tables


def as_rows(loaded: Loaded) -> list[Row]:
    """One row a key, in the order of the models; keys without a value have None."""
    rows: list[Row] = []

    def visit(value: Any, key: str) -> None:
        if isinstance(value, dict) and value:
            for name, inner in value.items():
                visit(inner, f"{key}.{name}" if key else str(name))
        else:
            leaf = key.rpartition(".")[2]
            rows.append(Row(key, _presentable(value, leaf), loaded.origins.get(key, "default")))

    visit(loaded.settings.model_dump(mode="json"), "")
    return rows


def as_toml(loaded: Loaded) -> str:
    """A file that gives the same settings when it is read again (but for what was redacted)."""
    return tomli_w.dumps(as_tables(loaded))


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of the file, for editors: type errors, limits, unknown keys, descriptions."""
    schema: dict[str, Any] = _without_null(Settings.model_json_schema())
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "rrq.toml"
    # Other programs' tables may stand beside the two of ours; and RRQ's older names are still good.
    schema["additionalProperties"] = True
    table = schema["$defs"]["RRQSettings"]["properties"]
    pool = schema["$defs"]["PoolSettings"]
    pool["anyOf"] = [{"required": [one]} for one in ("handlers", "runner")]
    del pool["required"]
    for older, newer in (("routing", "runner_routes"), ("cron", "cron_jobs")):
        table[older] = {**table[newer], "deprecated": True, "description": f"Older name of {newer}."}
    table["worker_concurrency"] = {"deprecated": True, "description": "Accepted because RRQ accepts it; ignored."}
    return schema


def _without_null(schema: Any) -> Any:
    """A key that may be left out is no `null` in TOML; without that choice editors say plainly what is wrong."""
    if isinstance(schema, list):
        return [_without_null(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: _without_null(inner) for name, inner in schema.items() if (name, inner) != ("default", None)}
    choices = [choice for choice in plain.get("anyOf", []) if choice != {"type": "null"}]
    if len(choices) == 1:
        del plain["anyOf"]
        plain = {**choices[0], **plain}
    return plain


def _presentable(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {key: _presentable(inner, key) for key, inner in value.items() if inner is not None}
    if isinstance(value, list):
        return [_presentable(inner, name) for inner in value]
    if isinstance(value, str):
        return HIDDEN if value and _SECRET_NAME.search(name) else redact(value)
    return value
