"""Buckets of queues: an order that lies in the store, for all pools with ``queue_order = "buckets"``. Pure.

``[{"queues": ["vip-*", "!vip-slow"]}, {"queues": [], "fairly": true}, {"queues": ["bulk"]}]``: jobs of an earlier
bucket always come first. In a bucket earlier queues do, too, unless it is ``fairly``: then each is first in its turn.

Rule 1: a queue is in the first bucket that names it. The bucket without names has the rest; without one, that is last.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from rrqd.exc import InvalidRequest
from rrqd.model import checks
from rrqd.model.queue_patterns import LIST, NOT, resolve

#: How the buckets are called in the store's configuration.
KEY = "queue_buckets"
MOST = 100


class Bucket(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Queues of one rank; none: those that no other bucket names."""

    queues: list[str] = []
    fairly: bool = False


def read_buckets(text: str | None) -> list[Bucket]:
    """Stored buckets; what is none counts as empty."""
    try:
        return msgspec.json.decode(text or "[]", type=list[Bucket])
    except msgspec.DecodeError:
        return []


def buckets_text(value: Any) -> str:
    """Buckets as they are stored; ``value``: a list of them, or the JSON of one. Raises InvalidRequest."""
    try:
        raw = msgspec.json.decode(value) if isinstance(value, str) else value
        buckets = msgspec.convert(raw, list[Bucket], from_attributes=True)
    except msgspec.MsgspecError as fault:
        raise InvalidRequest(
            f'{KEY} must be a list like [{{"queues": ["vip-*"], "fairly": true}}], not {value!r}: {fault}'
        ) from None
    if not 1 <= len(buckets) <= MOST:
        raise InvalidRequest(f"{KEY} has 1 to {MOST} buckets, not {len(buckets)}")
    if sum(not bucket.queues for bucket in buckets) > 1:
        raise InvalidRequest(f"{KEY}: only one bucket may be without queues: it has the rest")
    for bucket in buckets:
        names = [checks.name(one, f"{KEY} entry") for one in bucket.queues]
        if any(one.lstrip(NOT).startswith(LIST) for one in names):
            raise InvalidRequest(f"{KEY} names a list; a bucket has queues and patterns only")
        if names and all(one.startswith(NOT) for one in names):
            raise InvalidRequest(f"{KEY}: {', '.join(names)} take away from a bucket that has nothing")
    return msgspec.json.encode(buckets).decode()


def sort_into(buckets: Sequence[Bucket], queues: Sequence[str]) -> list[Bucket]:
    """These queues, each in its bucket, in the order of that; buckets that nothing falls into are left out."""
    left = dict.fromkeys(queues)
    named: list[list[str]] = []
    for bucket in buckets:
        there = set(left)
        found = [one for one in resolve(bucket.queues, left, {}) if one in there]
        for queue in found:
            del left[queue]
        named.append(found)
    rest = next((nth for nth, bucket in enumerate(buckets) if not bucket.queues), None)
    if rest is not None:
        named[rest] = list(left)
    ranked = [Bucket(found, bucket.fairly) for found, bucket in zip(named, buckets, strict=True)]
    if rest is None:
        ranked.append(Bucket(list(left), fairly=True))
    return [bucket for bucket in ranked if bucket.queues]
