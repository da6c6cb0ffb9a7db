"""Configuration: one TOML file and three environment variables become one frozen `Settings`.

    fields    the kinds of value a key can have, and the words said when a value is impossible
    rrq_table every key of RRQ's own [rrq] table, with RRQ's defaults
    settings  every key of [rrqd] and [rrqd.pools.*]; `Settings` holds both tables
    locate    which line of the file a key stands on
    loader    file + environment -> `Loaded`; all mistakes of a file in one `ConfigError`
    show      the settings in force, where each comes from, and the JSON Schema
    probe     imports the pools' handlers in a process of its own, for `rrqd config check`

Defaults live in the two models and nowhere else. The names below are imported on first use, so that a
program that only wants one of them does not pay for pydantic before it has to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrqd.lazily import lazily

if TYPE_CHECKING:
    from rrqd.config.loader import Loaded, embedded_wanted, load
    from rrqd.config.pool_table import PoolSettings
    from rrqd.config.rrq_table import CronJobSettings, RRQSettings, RunnerSettings, WatchSettings
    from rrqd.config.settings import DaemonSettings, Settings, resolve_state_dir

_HOMES = {
    "CronJobSettings": "rrq_table",
    "DaemonSettings": "settings",
    "Loaded": "loader",
    "PoolSettings": "pool_table",
    "RRQSettings": "rrq_table",
    "RunnerSettings": "rrq_table",
    "Settings": "settings",
    "WatchSettings": "rrq_table",
    "embedded_wanted": "loader",
    "load": "loader",
    "resolve_state_dir": "settings",
}

__all__ = [
    "CronJobSettings",
    "DaemonSettings",
    "Loaded",
    "PoolSettings",
    "RRQSettings",
    "RunnerSettings",
    "Settings",
    "WatchSettings",
    "embedded_wanted",
    "load",
    "resolve_state_dir",
]

__getattr__ = lazily(__name__, _HOMES)
