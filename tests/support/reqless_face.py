"""What the tests of reqless' face share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rrqd import reqless
from rrqd.rq import Connection


@contextmanager
def face_of(dsn: str) -> Iterator[reqless.Client]:
    """A client over a connection of its own."""
    place = Connection(dsn)
    client = reqless.Client(place)
    yield client
    client.close()
    place.close()


def job_of(client: reqless.Client, jid: str) -> reqless.Job:
    job = client.jobs[jid]
    assert isinstance(job, reqless.Job)
    return job
