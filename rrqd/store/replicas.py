"""An enqueue that counts only once replicas have it: what a fail-over then can't lose.

The server's WAIT looks at what its own connection has written. Two consequences: it is asked over the connection of the
writes; and a call that is repeated, perhaps over a new connection, and finds its jobs written, writes a mark first.
"""

from __future__ import annotations

from rrqd.exc import StoreUnavailable
from rrqd.store.connection import Link
from rrqd.store.keys import Keys

#: How long one WAIT lasts; whoever enqueues asks again until their own time is over.
WAIT_MS = 1000


async def replicated(link: Link, keys: Keys, wanted: int, *, repeated: bool) -> None:
    """Return once ``wanted`` replicas have all that was written over ``link``.

    Raises StoreUnavailable when they do not in a second: what was written is written, and the call may be repeated.
    """
    if repeated:
        await link.call("SET", keys.mark, "1")
    reached = int(await link.call("WAIT", wanted, WAIT_MS))
    if reached < wanted:
        raise StoreUnavailable(f"The jobs are written, but {reached} of {wanted} replicas have confirmed them")
