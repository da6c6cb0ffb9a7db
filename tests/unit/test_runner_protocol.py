"""Frames and messages of the runner protocol: what is written is read again, whatever the stream is cut into."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.bridge import protocol
from rrqd.bridge.protocol import Cancel, Frames, FrameTooLarge, Oversize, ProtocolFault, Request, Response
from rrqd.job import JobResult, JobStatus
from rrqd.runner import ExecutionContext

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
texts = st.text(max_size=30)
moments = st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC))
strings = st.none() | st.dictionaries(texts, texts, max_size=3)
contexts = st.builds(
    ExecutionContext, job_id=texts, attempt=st.integers(1, 1000), enqueue_time=moments, queue_name=texts,
    deadline=st.none() | moments, trace_context=strings, correlation_context=strings, worker_id=st.none() | texts,
    token=st.none() | st.integers(1, 2**53),
)  # fmt: skip
params = st.dictionaries(texts, json_values, max_size=3)
ends = st.none() | st.builds(JobResult, status=st.sampled_from(JobStatus), result=json_values)
requests = st.builds(
    Request, request_id=texts, job_id=texts, function_name=texts, params=params, context=contexts,
    args=st.just(msgspec.UNSET) | st.lists(json_values, max_size=2),
    parents=st.just(msgspec.UNSET) | st.dictionaries(texts, ends, max_size=2),
)  # fmt: skip


def content(whole: bytes) -> bytes:
    assert int.from_bytes(whole[:4], "big") == len(whole) - 4
    return whole[4:]


def wrapped(kind: str, payload: dict[str, Any]) -> bytes:
    return json.dumps({"type": kind, "payload": payload}).encode()


@given(requests)
def test_a_request_is_read_as_it_was_written(request: Request) -> None:
    assert protocol.read(content(protocol.frame(request))) == request


@given(st.lists(st.binary(min_size=1, max_size=40).map(lambda tail: b"{" + tail), max_size=6), st.data())
def test_frames_come_whole_however_the_stream_is_cut(contents: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(len(one).to_bytes(4, "big") + one for one in contents)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    frames = Frames()
    found = [
        one
        for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)
        for one in frames.feed(stream[start:end])
    ]
    assert found == contents


@given(st.integers(0, 200), st.integers(1, 50), st.binary(max_size=30).map(lambda tail: b"{" + tail))
def test_a_frame_above_the_limit_is_passed_over_and_the_next_one_is_good(extra: int, step: int, after: bytes) -> None:
    big = b'{"request_id":"7:1"' + b"x" * (40 + extra)
    stream = len(big).to_bytes(4, "big") + big + len(after).to_bytes(4, "big") + after
    frames = Frames(largest_bytes=50)
    found = [one for at in range(0, len(stream), step) for one in frames.feed(stream[at : at + step])]
    assert found == [Oversize(len(big), big[:4096], big[-4096:]), after]


@given(st.binary(max_size=60))
def test_any_bytes_are_frames_or_a_fault_and_nothing_else(data: bytes) -> None:
    try:
        for one in Frames().feed(data):
            if isinstance(one, bytes):
                protocol.read(one)
    except ProtocolFault:
        pass


def test_the_fields_of_a_request_are_those_of_the_protocol() -> None:
    moment = datetime(2026, 5, 4, 3, 2, 1, 250_000, tzinfo=UTC)
    context = ExecutionContext(job_id="j", attempt=2, enqueue_time=moment, queue_name="rrq:queue:q", deadline=moment)
    request = Request(request_id="r", job_id="j", function_name="f", params={"a": 1}, context=context)
    assert json.loads(content(protocol.frame(request))) == {
        "type": "request",
        "payload": {
            "protocol_version": "2", "request_id": "r", "job_id": "j", "function_name": "f", "params": {"a": 1},
            "context": {
                "job_id": "j", "attempt": 2, "enqueue_time": "2026-05-04T03:02:01.250000Z", "queue_name": "rrq:queue:q",
                "deadline": "2026-05-04T03:02:01.250000Z", "trace_context": None, "correlation_context": None,
                "worker_id": None, "token": None, "snoozes": 0,
            },
        },
    }  # fmt: skip


def test_a_request_may_be_as_short_as_rrq_allows() -> None:
    context = {"job_id": "j", "attempt": 1, "enqueue_time": "2026-05-04T03:02:01", "queue_name": "q", "more": [1]}
    payload = {"request_id": "r", "job_id": "j", "function_name": "f", "context": context, "unknown": {}}
    request = protocol.read(wrapped("request", payload))
    assert isinstance(request, Request)
    assert (request.params, request.protocol_version) == ({}, "2")
    assert request.context.enqueue_time == datetime(2026, 5, 4, 3, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "payload",
    [
        {"status": "success", "request_id": "r"},
        {"status": "success", "request_id": "r", "job_id": None, "result": None, "error": None},
    ],
)
def test_absent_and_null_are_the_same_in_an_answer(payload: dict[str, Any]) -> None:
    response = protocol.read(wrapped("response", payload))
    assert isinstance(response, Response)
    assert (bytes(response.result), response.error, response.job_id) == (b"null", None, None)


def test_a_result_stays_the_text_it_came_as() -> None:
    response = protocol.read(b'{"type":"response","payload":{"status":"success","result":{"a":1.50 , "b":[]}}}')
    assert isinstance(response, Response)
    assert bytes(response.result) == b'{"a":1.50 , "b":[]}'


def test_a_cancel_may_name_the_job_alone() -> None:
    assert protocol.read(wrapped("cancel", {"job_id": "j"})) == Cancel(job_id="j")


@pytest.mark.parametrize(
    "text",
    [
        b"{}", b"[]", b"{", b'{"type":"hello","payload":{}}', b'{"type":"response","payload":{"status":"maybe"}}',
        b'{"type":"request","payload":{"request_id":"r"}}', b'{"type":"response","payload":\xff}',
        b'{"type":"cancel"}', b'{"type":"response","payload":' + b"[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_message_is_a_fault(text: bytes) -> None:
    with pytest.raises(ProtocolFault):
        protocol.read(text)


@pytest.mark.parametrize("stream", [b"\0\0\0\0", b"HTTP/1.1 400", b"\0\0\0\x05hello"])
def test_what_is_no_stream_of_frames_is_a_fault(stream: bytes) -> None:
    with pytest.raises(ProtocolFault):
        Frames().feed(stream)


def test_a_message_above_the_limit_is_not_sent() -> None:
    result = msgspec.Raw(b'"' + b"x" * protocol.LARGEST_FRAME_BYTES + b'"')
    with pytest.raises(FrameTooLarge, match="16777216"):
        protocol.frame(Response(status="success", result=result))


@pytest.mark.parametrize(
    ("head", "tail", "named"),
    [
        (b'{"payload":{"job_id":"a","request_id":"a:1","result":"xxx', b"xxx", "a:1"),
        (b'{"payload":{"result":"xxx', b'xxx","request_id" : "b:2"}}', "b:2"),
        (b'{"payload":{"result":"xxx', b"xxx", None),
        (b'{"request_id":"a:1"', b'"request_id":"b:2"}', None),
        (b'{"request_id":"z:9"', b"xxx", None),
    ],
)
def test_who_sent_too_much_is_named_if_the_frame_says_so(head: bytes, tail: bytes, named: str | None) -> None:
    assert Oversize(99, head, tail).named({"a:1": 0, "b:2": 0}) == named
