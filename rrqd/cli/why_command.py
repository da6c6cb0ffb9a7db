"""``rrqd why``: what stands between a job and a worker."""

from __future__ import annotations

import click

from rrqd.cli.invocation import Invocation, config_option, json_option
from rrqd.cli.output import complain, emit, fields
from rrqd.cli.session import dsn_option, open_store, run
from rrqd.store.why import Why
from rrqd.store.why import why as ask

PLACES = {
    "queue": "in queue {queue}",
    "prio": "in queue {queue}, with a priority",
    "fair": "in queue {queue}, among its tenant's turns",
    "later": "in queue {queue}, with a priority, not due",
    "alone": "of queue {queue}, apart from the others, to run alone",
    "depends": "waiting for other jobs",
    "parked": "waiting for a throttle",
    "held": "with a worker",
    "none": "in no queue",
}


@click.command("why")
@click.argument("job_id")
@dsn_option
@config_option
@json_option
@click.pass_obj
def why(invocation: Invocation, job_id: str, dsn: str | None, as_json: bool) -> int:
    """Say why a job has not run yet: not due, waiting for others, paused, behind how many, no worker for its queue.

    Exit 1 when there is no such job.
    """

    async def look() -> Why | None:
        async with open_store(invocation, dsn) as store:
            return await ask(store, job_id)

    found = run(look())
    if found is None:
        complain(f"there is no job {job_id} (it may have expired)")
        return 1
    emit(found, as_json, lambda: fields(page(found)))
    return 0


def page(found: Why) -> dict[str, str]:
    """The lines for people."""
    place = PLACES.get(found.place, found.place).format(queue=found.queue)
    lines = {"status": found.status.value, "place": place}
    texts = [reason.text for reason in found.reasons]
    lines["why"] = "\n".join(texts) or "nothing holds it up: the next free worker takes it"
    return lines
