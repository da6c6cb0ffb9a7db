"""Settings as a child of the daemon gets them: checked and completed by the master, so here only read.

A mold, a steward and a web process start with a JSON text in hand. Building the checked models again would cost each
of them more than all else it imports, so they read the same text into plain objects with the same names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from rrqd.config.shapes import DaemonShape, PoolShape

if TYPE_CHECKING:
    from rrqd.config.settings import Settings


class Given:
    """A table of settings. Nobody can change it; a name that it does not have is an AttributeError."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.__dict__.update(values)

    def __setattr__(self, name: str, _value: object) -> NoReturn:
        raise AttributeError(f"settings can't be changed in a running process: {name}")


class GivenPool(PoolShape, Given):
    pass


class GivenDaemon(DaemonShape, Given):
    pass


def settings_from_json(text: str | bytes) -> Settings:
    """What `Settings.to_json` wrote. It is taken as it is: only the master's own words may come this way."""
    tables = json.loads(text)
    rrq, rrqd = tables["rrq"], tables["rrqd"]
    runners = {name: Given(runner) for name, runner in rrq["runners"].items()}
    crons = [Given(one) for one in rrq["cron_jobs"]]
    watch = Given(rrq["watch"]) if rrq.get("watch") else None
    pools = {name: GivenPool(pool) for name, pool in rrqd["pools"].items()}
    state_dir = None if rrqd["state_dir"] is None else Path(rrqd["state_dir"])
    whole = Given(
        {
            "rrq": Given({**rrq, "runners": runners, "cron_jobs": crons, "watch": watch}),
            "rrqd": GivenDaemon({**rrqd, "web": Given(rrqd["web"]), "pools": pools, "state_dir": state_dir}),
        }
    )
    return cast("Settings", whole)
