"""RRQ's runner protocol, version 2: frames, messages, limits. Pure: bytes in, bytes out.

A frame is four bytes of length (big-endian) and that many bytes of UTF-8 JSON, ``{"type": …, "payload": {…}}``.

Rule 1: lenient in what is read (absent and null are the same, unknown fields are passed over), exact in what is
        written. What is ours and not RRQ's is left out where there is nothing to say; RRQ's runners pass over it.
Rule 2: a frame above the limit is never collected. It is passed over as it comes, with its beginning and end kept, so
        that the one who sent too much can be named and nobody else on the connection is harmed.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from datetime import UTC
from struct import Struct
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import UNSET, UnsetType

from rrqd.exc import RRQError
from rrqd.job import JobResult
from rrqd.runner import ExecutionContext

VERSION = "2"
HEADER_BYTES = 4
LARGEST_FRAME_BYTES = 16 * 1024 * 1024
MOST_IN_FLIGHT = 64
"""Requests on one connection that have no answer yet; a runner refuses the next."""
KEPT_BYTES = 4096
"""Of a frame above the limit: of each of its ends."""

Status = Literal["success", "retry", "timeout", "error"]


class ProtocolFault(RRQError):
    """The other side does not speak the protocol, and the connection can't go on."""


class FrameTooLarge(RRQError):
    """A message of ours would be above the limit; nothing was sent."""


class Request(msgspec.Struct, kw_only=True):
    """Run a job. Answered by one Response with the same ``request_id``. Ours: ``args``, ``parents`` (both as in
    ``ExecutionRequest``) and the context's ``token``, which also says that ``next`` of an answer is understood."""

    protocol_version: str = VERSION
    request_id: str
    job_id: str
    function_name: str
    params: dict[str, Any] = {}
    context: ExecutionContext
    args: list[Any] | UnsetType = UNSET
    parents: dict[str, JobResult | None] | UnsetType = UNSET


class Error(msgspec.Struct, kw_only=True):
    """Why a run failed. ``handler_not_found`` and ``cancelled`` are reserved types."""

    message: str = ""
    type: str | None = None
    code: str | None = None
    details: Any = None


class Response(msgspec.Struct, kw_only=True):
    """How a run ended. ``result`` stays the JSON text that it came as. ``next``, ours: with success, where the job goes
    on instead of ending, a ``NextStep``."""

    status: Status
    job_id: str | None = None
    request_id: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")
    error: Error | None = None
    retry_after_seconds: float | None = None
    next: msgspec.Raw | UnsetType = UNSET


class Cancel(msgspec.Struct, kw_only=True):
    """Stop a request, or all requests of a job. Not answered; the request itself is."""

    protocol_version: str = VERSION
    job_id: str
    request_id: str | None = None
    hard_kill: bool = False


class _RequestFrame(msgspec.Struct, tag_field="type", tag="request"):
    payload: Request


class _ResponseFrame(msgspec.Struct, tag_field="type", tag="response"):
    payload: Response


class _CancelFrame(msgspec.Struct, tag_field="type", tag="cancel"):
    payload: Cancel


class Oversize(NamedTuple):
    """A frame that was passed over."""

    size: int
    head: bytes
    tail: bytes

    def named(self, request_ids: Collection[str]) -> str | None:
        """The one of these requests that it answers, if it says so near one of its ends."""
        found = {text for part in (self.head, self.tail) for text in _REQUEST_ID.findall(part)}
        known = [one for one in request_ids if one.encode() in found]
        return known[0] if len(known) == 1 else None


_REQUEST_ID = re.compile(rb'"request_id"\s*:\s*"([^"\\]*)"')
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_RequestFrame | _ResponseFrame | _CancelFrame).decode
_FRAMES: dict[type, Any] = {Request: _RequestFrame, Response: _ResponseFrame, Cancel: _CancelFrame}
_size_at = Struct(">I").unpack_from


def frame(message: Request | Response | Cancel) -> bytes:
    """The message as it goes over the line. Raises ``FrameTooLarge``, and ``TypeError`` for what JSON can't say."""
    content = _encode(_FRAMES[type(message)](message))
    size = len(content)
    if size > LARGEST_FRAME_BYTES:
        kind = type(message).__name__.lower()
        raise FrameTooLarge(f"the {kind} is {size} bytes of JSON; the runner protocol allows {LARGEST_FRAME_BYTES}")
    return size.to_bytes(HEADER_BYTES, "big") + content


def read(content: bytes) -> Request | Response | Cancel:
    """The message in a frame. Raises ``ProtocolFault``."""
    try:
        message: Request | Response | Cancel = _decode(content).payload
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as fault:
        raise ProtocolFault(f"a frame can't be read: {str(fault)[:200]}") from None
    return _with_zone(message) if type(message) is Request else message


def _with_zone(request: Request) -> Request:
    """A time without a zone is UTC."""
    context = request.context
    if context.enqueue_time.tzinfo is None:
        context.enqueue_time = context.enqueue_time.replace(tzinfo=UTC)
    if context.deadline is not None and context.deadline.tzinfo is None:
        context.deadline = context.deadline.replace(tzinfo=UTC)
    return request


class Frames:
    """Cuts a stream of bytes into the contents of its frames."""

    def __init__(self, largest_bytes: int = LARGEST_FRAME_BYTES) -> None:
        self._largest = largest_bytes
        self._rest = bytearray()
        self._needed = 0
        self._over_size = 0
        self._over_left = 0
        self._over_head = b""
        self._over_tail = b""

    def feed(self, data: bytes) -> list[bytes | Oversize]:
        """What is complete now. Raises ``ProtocolFault`` when this is no stream of frames; then all is lost."""
        if self._rest:
            self._rest += data
            if len(self._rest) < self._needed:
                return []
            data = bytes(self._rest)
        found: list[bytes | Oversize] = []
        at, here = 0, len(data)
        while True:
            if self._over_left:
                at = self._pass_over(data, at)
                if self._over_left:
                    break
                found.append(Oversize(self._over_size, self._over_head, self._over_tail))
            begin = at + HEADER_BYTES
            if here < begin:
                self._needed = HEADER_BYTES
                break
            size = _size_at(data, at)[0]
            if not size or data[begin : begin + 1] != b"{":
                _refuse(size, data[begin : begin + 1])
            if size > self._largest:
                at = begin
                self._over_size = self._over_left = size
                self._over_head = self._over_tail = b""
                continue
            end = begin + size
            if here < end:
                self._needed = end - at if begin < here else HEADER_BYTES + 1
                break
            found.append(data[begin:end])
            at = end
        self._rest = bytearray(data[at:])
        return found

    def _pass_over(self, data: bytes, at: int) -> int:
        """Use up what is here of a frame above the limit; answers where the rest begins."""
        part = data[at : at + self._over_left]
        if len(self._over_head) < KEPT_BYTES:
            self._over_head = (self._over_head + part[:KEPT_BYTES])[:KEPT_BYTES]
        self._over_tail = (self._over_tail + part[-KEPT_BYTES:])[-KEPT_BYTES:]
        self._over_left -= len(part)
        return at + len(part)


def _refuse(size: int, first: bytes) -> None:
    """What no frame can be: a length that is none, or text of another kind."""
    if size == 0:
        raise ProtocolFault("a frame of no length")
    if first not in (b"", b"{", b" ", b"\t", b"\r", b"\n"):
        raise ProtocolFault(f"a frame that begins with {first!r} and is no JSON object")
