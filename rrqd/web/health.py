"""Whether all is well, and if not: what, where, why and what to do. Pure: a Sight in, a Health out.

Three questions, as an orchestrator asks them: *startup* (did it ever come up), *live* (should it be restarted? never
for Redis' sake, nor for one bad worker), *ready* (does work get done here now).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from rrqd.web.sight import Sight

MASTER_SILENT_SECONDS = 10.0
Question = Literal["live", "ready", "startup"]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and which questions it makes answer no."""

    what: str
    where: str
    why: str
    what_to_do: str
    fails: frozenset[Question] = frozenset({"ready"})

    def plain(self) -> dict[str, Any]:
        return {
            "what": self.what,
            "where": self.where,
            "why": self.why,
            "what_to_do": self.what_to_do,
            "fails": sorted(self.fails),
        }


@dataclass(frozen=True, slots=True)
class Health:
    """The verdict."""

    problems: list[Problem] = field(default_factory=list)

    def ok(self, question: Question) -> bool:
        return not any(question in problem.fails for problem in self.problems)


def verdict(sight: Sight) -> Health:
    """Everything that is wrong, worst first."""
    master = sight.master
    if not sight.must_have_master and not master:
        return Health(_of_server(sight))
    if sight.master_age_seconds is None or sight.master_age_seconds > MASTER_SILENT_SECONDS:
        age = "never" if sight.master_age_seconds is None else f"{sight.master_age_seconds:.0f} s ago"
        silent = Problem(
            "the master is silent",
            "master",
            f"it last spoke {age}",
            "look at its log; if it hangs, `kill -USR1` it for its stack, then restart the service",
            frozenset({"live", "ready", "startup"}),
        )
        return Health([silent])
    problems = [*_of_daemon(master), *_of_server(sight), *_of_lease(sight), *_of_pools(master)]
    return Health(problems)


def _of_daemon(master: dict[str, Any]) -> list[Problem]:
    problems = []
    if not master.get("ready_once"):
        problems.append(
            Problem(
                "still starting",
                "master",
                "not every pool has been up yet",
                "wait; the log names what is being waited for",
                frozenset({"ready", "startup"}),
            )
        )
    if master.get("mode") == "stop":
        problems.append(
            Problem("stopping", "master", "it was told to stop", "nothing: running jobs are being finished")
        )
    reload = master.get("reload") or {}
    if reload.get("ok") is False:
        problems.append(
            Problem(
                "the last reload failed",
                "configuration",
                str(reload.get("message") or "see the log"),
                "mend the configuration or the handlers and send SIGHUP again; the old generation works on",
                frozenset(),
            )
        )
    if not any(one.get("kind") == "steward" and one.get("phase") == "ready" for one in master.get("processes", [])):
        problems.append(
            Problem(
                "no steward",
                "steward",
                "it is starting, or keeps dying",
                "look at its log lines; running jobs go on, the lease ends soon",
            )
        )
    return problems


def _of_server(sight: Sight) -> list[Problem]:
    store = sight.store
    if not store.ok:
        return [
            Problem(
                "the server cannot be reached",
                "store",
                store.error,
                "look at the server and the network; rrqd goes on by itself when it answers",
            )
        ]
    if store.aside:
        return [
            Problem(
                f"{store.aside} ids were set aside",
                "store",
                "their keys are no jobs",
                "look at the hash rrqd:aside and delete what is not needed",
                frozenset(),
            )
        ]
    return []


def _of_lease(sight: Sight) -> list[Problem]:
    left = sight.store.lease_seconds
    if not sight.store.ok or (left is not None and left > 0):
        return []
    return [
        Problem(
            "the node's lease is not live",
            "store",
            "the steward has not renewed it in time",
            "look at the steward's log lines; no jobs are claimed until it is renewed",
        )
    ]


def _of_pools(master: dict[str, Any]) -> list[Problem]:
    problems = []
    for name, pool in (master.get("pools") or {}).items():
        ready, wanted = int(pool.get("ready") or 0), int(pool.get("processes") or 0)
        why = str(pool.get("last_error") or "its workers are starting")
        if ready == 0:
            problems.append(
                Problem(
                    f"pool {name} has no ready worker", name, why, "look at the log for worker.died and mold events"
                )
            )
        elif ready < wanted:
            problems.append(
                Problem(f"pool {name} has {ready} of {wanted} workers", name, why, "look at the log", frozenset())
            )
        if pool.get("degraded"):
            problems.append(
                Problem(
                    f"pool {name} is degraded",
                    name,
                    f"its workers die faster than they finish jobs; the last of {why}",
                    "`rrqd crashes` says of what; mend that, or `rrqd pause` the pool",
                )
            )
        for slot in pool.get("slots", []):
            if slot.get("suspect"):
                where = f"{name}/{slot.get('slot')}"
                what = f"job {slot['suspect']} blocks worker {where}"
                problems.append(
                    Problem(what, where, "its event loop does not turn", "see the stack in the log", frozenset())
                )
    return problems
