"""The store, whole: all its moves, readings and waits over one connection."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from rrqd.store.annals import Annals
from rrqd.store.audit import Audit
from rrqd.store.connection import Endpoint
from rrqd.store.figures import Figures
from rrqd.store.foreign import Foreign
from rrqd.store.jobs import JobMoves
from rrqd.store.labels import Labels
from rrqd.store.pauses import Pauses
from rrqd.store.presence import Presence
from rrqd.store.records import StorePolicy
from rrqd.store.recurring import Templates
from rrqd.store.samples import Samples
from rrqd.store.series import Series
from rrqd.store.stored_config import StoredConfig
from rrqd.store.tenants import Tenants
from rrqd.store.throttles import Throttles
from rrqd.store.timetable import Timetable
from rrqd.store.waiting import Waits


class Store(
    JobMoves,
    Labels,
    Figures,
    Series,
    Tenants,
    Throttles,
    Presence,
    Pauses,
    Samples,
    StoredConfig,
    Foreign,
    Timetable,
    Templates,
    Waits,
    Annals,
    Audit,
):
    """See :mod:`rrqd.store` for what it promises."""

    @classmethod
    async def open(
        cls,
        dsn: str,
        policy: StorePolicy,
        *,
        client_name: str,
        on_message: Callable[[bytes], None] | None = None,
        channel: str | None = None,
        timeout_seconds: float = 5.0,
    ) -> Self:
        """A connected store. Raises ValueError for a bad DSN, StoreUnavailable, StoreRefused, StoreUnsupported.

        ``channel``: a worker's id; what is said to it (``cancel <job id>``) goes to ``on_message``.
        """
        store = cls(
            Endpoint.parse(dsn),
            policy,
            client_name=client_name,
            on_message=on_message,
            channel=channel,
            timeout_seconds=timeout_seconds,
        )
        await store.link()
        return store
