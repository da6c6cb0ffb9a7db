"""How long a client may take. Whoever connects and says nothing, or says it slowly, must not keep others out.

Rule 1: a request's head comes within `HEAD_SECONDS`, and the answer is taken within `ANSWER_SECONDS`.
Rule 2: a request's head is at most `MOST_HEAD_BYTES`.
Rule 3: at most `MOST_CONNECTIONS` stay open. One more costs the place of whoever has done nothing for longest, so a
health check that comes last is served like the first. Nobody is told to come back later.
"""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_SECONDS = 5.0
ANSWER_SECONDS = 30.0
MOST_CONNECTIONS = 200
MOST_HEAD_BYTES = 65_536
"""A browser's is some 2 KiB, with cookies seldom 8; uvicorn's parser knows no limit."""


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol with an end to its patience."""

    _open: ClassVar[dict[PatientProtocol, None]] = {}
    """All connections of this process; whoever did something last stands last."""
    _limit: asyncio.TimerHandle | None = None
    _head_bytes = 0
    """Of a head that is not complete yet, about; -1 while a body or nothing is read."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._give(HEAD_SECONDS)
        if len(self._open) > MOST_CONNECTIONS:
            next(iter(self._open))._hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes >= 0:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes > MOST_HEAD_BYTES:
            self._hang_up()

    def on_message_begin(self) -> None:
        self._head_bytes = max(self._head_bytes, 0)
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self._head_bytes = -1
        self._give(ANSWER_SECONDS)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing():
            self._give(HEAD_SECONDS if self.cycle.response_complete else ANSWER_SECONDS)

    def _give(self, seconds: float) -> None:
        """So much time for the next thing to happen."""
        self._forget()
        self._open[self] = None
        self._limit = self.loop.call_later(seconds, self._hang_up)

    def _forget(self) -> None:
        self._open.pop(self, None)
        if self._limit is not None:
            self._limit.cancel()
            self._limit = None

    def _hang_up(self) -> None:
        self._forget()
        self.transport.abort()
