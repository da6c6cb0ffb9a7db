"""A worker without the daemon: ``rrqd worker run``, the other APIs' workers, tests, notebooks.

An :class:`Attendant` is one worker and all it needs around it. In a program with an event loop::

    pool = PoolSettings(handlers="myapp.jobs:registry", queues=["mail"], concurrency=10)
    attendant = Attendant(settings, pool, LoadedHandlers(registry))
    await attendant.run()                           # until attendant.stop(), from any thread or a signal handler
    await attendant.run(horizon_seconds=0)          # a burst: until nothing runs and nothing is due
    await attendant.run(until=event.wait())         # until something else has happened

In a program without one, :class:`Background` runs it in a thread::

    background = Background(lambda: Attendant(settings, pool, handlers))
    background.start()                              # returns when the worker is open and takes jobs
    background.stop()                               # drains, waits; may be called twice, or after its end
    background.join()                               # waits for the end; answers the reason, raises what went wrong

``settings`` are a whole :class:`~rrqd.config.settings.Settings` (``rrq.redis_dsn`` says where the server is);
``handlers`` is what :func:`rrqd.handlers.load_handlers` answers, or made by hand. ``PoolSettings.handlers`` is only
a name then. One attendant is run once.

What keeps the jobs safe: the *keeper*, a thread with a connection of its own, renews the lease, so a handler that
blocks the worker's loop does not lose its job. The process may be killed: its lease ends, and whoever looks first
(a steward, another keeper) puts its jobs back. A worker that was taken for dead (a suspended laptop) drops what it ran
and begins anew.
"""

from __future__ import annotations

from rrqd.standalone.attendant import Attendant
from rrqd.standalone.background import Background

__all__ = ["Attendant", "Background"]
