"""Testing what enqueues jobs, and what runs them, on the real engine.

The pytest plugin (it is there when rrqd is installed) has the fixture ``rrqd``:

    def test_a_welcome_is_sent_once(rrqd):
        sign_up("a@example.org")
        rrqd.assert_enqueued(send_welcome, "a@example.org", queue="mail")
        rrqd.run_all()
        rrqd.advance("1d")                       # retries and delays come due, without waiting
        rrqd.assert_ran(send_welcome, times=1)

``docs/testing.md`` tells all of it; :class:`Engine` is the fixture's class, for other test runners.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rrqd.lazily import lazily

if TYPE_CHECKING:
    from rrqd.testing.engine import ANY as ANY
    from rrqd.testing.engine import Engine as Engine
    from rrqd.testing.faults import FAULTS as FAULTS
    from rrqd.testing.faults import Fault as Fault

_PUBLIC = {"ANY": "engine", "FAULTS": "faults", "Engine": "engine", "Fault": "faults"}

__all__ = sorted(_PUBLIC)

__getattr__ = lazily(__name__, _PUBLIC)
