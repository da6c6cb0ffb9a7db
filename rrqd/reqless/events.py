"""``client.events``: being called when something happens to a tracked job."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self

from rrqd.exc import ClientError

if TYPE_CHECKING:
    from rrqd.reqless.client import Client
    from rrqd.store.following import Follower, JobEvent

#: A move of a job -> the event of reqless that tells of it.
EVENTS = {
    "enqueued": "put", "revived": "put", "moved": "put", "retrying": "put", "claimed": "popped",
    "completed": "completed", "advanced": "completed", "buried": "failed", "cancelled": "canceled",
    "released": "stalled", "taken": "stalled", "tracked": "track", "untracked": "untrack",
}  # fmt: skip
Callback = Callable[[str], object]


class Events:
    """``events.on("completed", lambda jid: …)``, then ``listen()``, or ``with events.thread(): …``."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._callbacks: dict[str, Callback] = {}
        self._follower: Follower | None = None

    def on(self, evt: str, func: Callback) -> None:
        """Call it with the job's id; one function an event. Raises NotImplementedError for an unknown event."""
        self._callbacks[_known(evt)] = func

    def off(self, evt: str) -> Callback | None:
        """Call nothing any more; answers what was called."""
        return self._callbacks.pop(_known(evt), None)

    def listen(self) -> None:
        """Call the callbacks, without end, until ``unlisten``. What a callback raises ends it."""
        self._listen(self._begin())

    def unlisten(self) -> None:
        """End ``listen``, from a callback or another thread."""
        follower, self._follower = self._follower, None
        if follower is not None:
            self._client.sync._run(_close(follower))

    @contextlib.contextmanager
    def thread(self) -> Iterator[Self]:
        """Listen in a thread for as long as the block lasts; from its first line to its last nothing is missed."""
        follower = self._begin()
        thread = threading.Thread(target=self._listen, args=[follower], name="reqless-events", daemon=True)
        thread.start()
        try:
            yield self
        finally:
            wanted = self._follower is follower
            self.unlisten()
            thread.join()
            if wanted:
                self._catch_up(follower)

    def _catch_up(self, follower: Follower) -> None:
        """Tell what has happened and was not told yet; a server that is away has told what it could."""
        with contextlib.suppress(ClientError):
            for event in self._client.sync._run(follower.rest()):
                self._tell(event)

    def _begin(self) -> Follower:
        sync = self._client.sync
        self._follower = follower = sync.for_loops.tracking.events()
        with self._client.telling():
            sync._run(follower.before())  # what comes from here on is told
        return follower

    def _listen(self, follower: Follower) -> None:
        events: Any = aiter(follower)
        while not follower.closed:
            try:
                event = self._client.sync._run(anext(events))
            except (StopAsyncIteration, ClientError):  # unlistened, or the client is closed
                return
            self._tell(event)

    def _tell(self, event: JobEvent) -> None:
        callback = self._callbacks.get(EVENTS.get(event.event, ""))
        if callback is not None:
            callback(event.job_id)


def _known(event: str) -> str:
    if event not in EVENTS.values():
        raise NotImplementedError(f"there is no event {event!r}; there are {', '.join(dict.fromkeys(EVENTS.values()))}")
    return event


async def _close(follower: Follower) -> None:
    follower.close()
