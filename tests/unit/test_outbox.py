"""The outbox: what the server has not answered for stays, in its order."""

from __future__ import annotations

import structlog

from rrqd.model.lifecycle import End
from rrqd.model.verdict import Verdict
from rrqd.runtime.outbox import Outbox
from rrqd.store import Settled, Settlement


def test_a_server_that_answers_for_the_first_few_is_asked_for_the_others() -> None:
    outbox = Outbox(structlog.get_logger())
    for n in range(5):
        outbox.add(Settlement(f"j{n}", n, Verdict(end=End.COMPLETE, ttl_seconds=60)))
    settling = outbox.next()

    assert outbox.heard(settling, [Settled.OK, Settled.STALE]) == 1
    assert [one.job_id for one in outbox.next()] == ["j2", "j3", "j4"]
