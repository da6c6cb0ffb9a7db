"""One connection between a worker and a runner, on a loop: whole messages in, whole messages out.

What is said in one turn of the loop goes out in one write.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from rrqd.bridge import protocol
from rrqd.bridge.protocol import Cancel, Frames, Oversize, ProtocolFault, Request, Response

Message = Request | Response | Cancel


class Line(asyncio.Protocol):
    """``on_message`` gets each message, or an ``Oversize`` in its place; ``on_lost`` once, with the reason."""

    def __init__(
        self, on_message: Callable[[Message | Oversize], None], on_lost: Callable[[str], None] = lambda _why: None
    ) -> None:
        self._on_message = on_message
        self._on_lost = on_lost
        self._frames = Frames()
        self._loop = asyncio.get_running_loop()
        self._out: list[bytes] = []
        self._transport: Any = None
        self._on_made: Callable[[Any], None] = lambda _transport: None
        self._why = "it closed the connection"
        self.is_lost = False

    def send(self, frame: bytes) -> None:
        """Say this soon. After the end of the connection it is said to nobody."""
        self._out.append(frame)
        if len(self._out) == 1:
            self._loop.call_soon(self._flush)

    def when_made(self, tell: Callable[[Any], None]) -> None:
        """Call this with the transport once there is a connection."""
        self._on_made = tell

    def when_lost(self, tell: Callable[[], None]) -> None:
        """Call this, too, when the connection is gone."""
        before = self._on_lost

        def both(why: str) -> None:
            before(why)
            tell()

        self._on_lost = both

    def abort(self) -> None:
        """Hang up at once."""
        self._transport.abort()

    def close(self) -> None:
        """Say what is still to be said, and hang up."""
        self._flush()
        if self._transport is not None:
            self._transport.close()

    def _flush(self) -> None:
        out, self._out = self._out, []
        if out and self._transport is not None and not self.is_lost:
            self._transport.write(b"".join(out))

    # what asyncio calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._on_made(transport)
        self._flush()

    def data_received(self, data: bytes) -> None:
        try:
            for content in self._frames.feed(data):
                self._on_message(content if isinstance(content, Oversize) else protocol.read(content))
        except ProtocolFault as fault:
            self._why = str(fault)
            self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.is_lost = True
        self._on_lost(f"the connection broke: {exc}" if exc is not None else self._why)
