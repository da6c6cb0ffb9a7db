"""What moves are drawn from."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from rrqd.model.job import Rate
from rrqd.model.lifecycle import End
from tests.property.likeness import LIMITS, QUEUES, RATES, TAGS, TENANTS, THROTTLES, WORKERS

queues = st.sampled_from(QUEUES)
workers = st.sampled_from(WORKERS)
priorities = st.sampled_from([0, 0, 1, 1, 5, -1, 2**53, -0.5])
policies = st.sampled_from(["hold", "cancel", "run"])
picks = st.integers(0, 10_000)
some_picks = st.lists(picks, max_size=3)
seldom = st.sampled_from([False, False, False, True])
ends = st.sampled_from([End.COMPLETE, End.COMPLETE, End.RETRY, End.SNOOZE, End.BURY, End.CANCEL, End.DIVERT])
names = st.sampled_from(THROTTLES)
limits = st.sampled_from(LIMITS)
#: What a new job asks for.
wishes = st.fixed_dictionaries(
    {},
    optional={
        "priority": st.just(0) | priorities,
        "tenant": st.sampled_from(TENANTS),
        "throttles": st.lists(names, max_size=2, unique=True).map(tuple),
        "rate": st.sampled_from(sorted(RATES)),
        "tags": st.lists(st.sampled_from(TAGS), max_size=2, unique=True).map(tuple),
        "tracked": st.booleans(),
    },
)
Wishes = dict[str, Any]


HOURLY = {name: Rate(name=name, limit=1, per_seconds=3600, burst=burst) for name, burst in RATES.items()}


def options_of(queue: str, wish: Wishes) -> dict[str, Any]:
    """The same for the jobs of a template."""
    options = {key: list(value) if isinstance(value, tuple) else value for key, value in wish.items() if value}
    if "tracked" in options:
        options["track"] = options.pop("tracked")
    if "rate" in options:
        options["rate"] = {"name": wish["rate"], "limit": 1, "per_seconds": 3600, "burst": RATES[wish["rate"]]}
    return {**options, "queue_name": queue}
