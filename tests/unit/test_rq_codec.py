"""Arguments and results: what goes in comes out, and what can't is refused where it is written."""

from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.rq import record
from rrqd.rq.codec import CodecError, decode, encode
from rrqd.rq.reference import NameUnknown, allow_all, allow_only, find, path_of, script, split
from tests.support import calls
from tests.support.calls import Account, Colour, Money, Order, Pair


def there_and_back(value: Any) -> Any:
    return decode(json.loads(json.dumps(encode(value), allow_nan=False)), allow_all)


VALUES = [
    None, True, 0, -1, 2**70, 1.5, math.inf, "", "ä\n", [1, [2]], {"a": {"b": None}}, {1: "one", (2, 3): "two"},
    {"$": "date", "v": 1}, (1, (2,)), {1, 2}, frozenset({"x"}), b"\x00\xff", bytearray(b"x"), 1 + 2j,
    datetime(2026, 3, 1, 12, 30, 0, 5), datetime(2026, 3, 1, tzinfo=UTC),
    datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))), date(2026, 3, 1), time(1, 2, 3),
    timedelta(days=-1, microseconds=3), Decimal("1.10"), UUID(int=7), Path("/tmp/x"), Colour.RED,
    Money(Decimal("2.50")), [Money(Decimal(1), "USD")], Pair(1, {2}),
    Order(day=date(2026, 1, 1), tags={"a"}, price=Money(Decimal(3))),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back_as_it_was(value: Any) -> None:
    back = there_and_back(value)

    assert back == value
    assert type(back) is type(value)


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary()
        | st.datetimes() | st.dates() | st.timedeltas() | st.decimals(allow_nan=False) | st.uuids(),
        lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
        max_leaves=12,
    )
)  # fmt: skip
def test_any_nesting_comes_back_as_it_was(value: Any) -> None:
    assert there_and_back(value) == value


def test_plain_json_is_written_as_it_is() -> None:
    value = {"user": 7, "names": ["a", None], "rate": 0.5}

    assert encode(value) == value


def test_an_object_that_is_no_data_is_refused_with_its_place() -> None:
    with pytest.raises(CodecError, match=r"argument 1\['who'\]\[0\] is a tests.support.calls.Account"):
        record.write_call(record.Call(({"who": [Account(3)]},), {}), {}, record.JSON, "", bytes)


def test_what_contains_itself_is_refused() -> None:
    knot: list[Any] = []
    knot.append(knot)

    with pytest.raises(CodecError, match="contains itself"):
        encode(knot)


@pytest.mark.parametrize(
    "data",
    [
        {"$": "dataclass", "t": "subprocess:Popen", "v": {"args": "id"}},
        {"$": "model", "t": "os:system", "v": {}},
        {"$": "enum", "t": "tests.support.calls:add", "v": "x"},
        {"$": "nothing", "v": 1},
        {"$": ["list"], "v": 1},
        {"$": "date", "v": "soon"},
        {"$": "tuple"},
        {"$": "timedelta", "v": ["x"]},
    ],
    ids=repr,
)
def test_a_stored_value_that_is_no_plain_data_is_never_built(data: Any) -> None:
    with pytest.raises(CodecError, match="can't be read back"):
        decode(data, allow_all)


def test_a_class_outside_of_the_allowed_modules_is_not_built() -> None:
    with pytest.raises(CodecError, match="not under handlers"):
        decode(encode(Money(Decimal(1))), allow_only(("shop.*",)))


def test_a_pickle_is_only_read_with_the_key_it_was_signed_with() -> None:
    params = record.write_call(record.Call((Account(3),), {}), {}, record.PICKLE, "job f", lambda: b"key")

    assert record.read_call(params, "job f", allow_all, lambda: b"key").args[0].balance == 3
    for subject, key in (("job f", b"other"), ("job g", b"key")):
        with pytest.raises(CodecError, match="signature"):
            record.read_call(params, subject, allow_all, lambda key=key: key)  # type: ignore[misc]
    with pytest.raises(CodecError, match="signature"):
        record.read_call({"pickle": params["pickle"]}, "job f", allow_all, lambda: b"key")


def test_functions_are_found_by_the_name_they_were_given() -> None:
    assert find(path_of(calls.add)) is calls.add
    assert find("tests.support.calls.add") is calls.add
    assert find("tests.support.calls.Order.model_validate") == Order.model_validate


@pytest.mark.parametrize(("thing", "why"), [(lambda: 1, "a lambda"), (Account(1), "no name")])
def test_what_could_not_be_found_again_is_refused(thing: Any, why: str) -> None:
    def inner() -> None: ...

    with pytest.raises(NameUnknown, match=why):
        path_of(thing)
    with pytest.raises(NameUnknown, match="inside another function"):
        path_of(inner)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("nowhere.at.all", "no module nowhere"),
        ("tests.support.calls.ad", "has no ad"),
        ("add", "names no function"),
        ("tests.support.calls:", "names no function"),
    ],
)
def test_a_name_that_leads_nowhere_says_what_is_missing(path: str, why: str) -> None:
    with pytest.raises(NameUnknown, match=why):
        find(path)


def test_a_daemon_imports_only_what_its_patterns_name() -> None:
    allow = allow_only(("shop.*", "tools.mail.send"))

    allow("shop.jobs:Bill.make")
    allow("tools.mail:send")
    for path in ("tools.mail:drop", "shopping.jobs:buy", "os:system"):
        with pytest.raises(NameUnknown, match="not under handlers"):
            allow(path)
    with pytest.raises(NameUnknown, match="only a worker started by that script"):
        allow("__main__:buy")


def test_a_console_has_no_script() -> None:
    assert script()
    assert split("a.b:C.d") == ("a.b", "C.d")
