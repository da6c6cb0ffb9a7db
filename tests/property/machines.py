"""How the machine of the store is run, in the tests and by ``bench.soak``."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from rrqd.store import Store, StorePolicy
from tests.property.store_machine import Machine

#: In one order.
MOVES_MOST = 50


def run_machine(dsn: str, examples: int, *, new: bool) -> int:
    """Try so many orders of moves, ``new`` ones or the same as always; answers how many moves that were. Raises what a
    move or a comparison raised, with the shortest order found that leads to it."""
    how = settings(
        max_examples=examples,
        stateful_step_count=MOVES_MOST,
        derandomize=not new,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    with asyncio.Runner() as runner:
        Machine.runner, Machine.steps = runner, 0
        Machine.store = runner.run(Store.open(dsn, StorePolicy(), client_name="rrqd:test"))
        try:
            run_state_machine_as_test(Machine, settings=how)
        finally:
            runner.run(Machine.store.close())
    return Machine.steps
