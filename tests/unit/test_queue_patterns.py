"""Lists of queues with patterns: what they come to, in which order, and whom a wake-up concerns."""

from __future__ import annotations

import pytest

from rrqd.model.queue_patterns import Reach, may_serve, resolve

KNOWN = ["mail", "slow-a", "slow-b", "a.b", "node#", "axb"]
LISTS = {"@night": '["slow-*", "bills"]', "@odd": "no json", "@nested": '["@night", "mail"]', "@not": '["!mail"]'}


@pytest.mark.parametrize(
    ("elements", "queues"),
    [
        (["mail", "new"], ["mail", "new"]),
        (["*"], ["a.b", "axb", "mail", "slow-a", "slow-b"]),
        (["*", "!slow-*"], ["a.b", "axb", "mail"]),
        (["!slow-*", "*"], ["a.b", "axb", "mail", "slow-a", "slow-b"]),
        (["mail", "*", "!*-a"], ["mail", "a.b", "axb", "slow-b"]),
        (["*", "!slow-*", "slow-b"], ["a.b", "axb", "mail", "slow-b"]),
        (["a.b*"], ["a.b"]),
        (["*a*", "!mail"], ["a.b", "axb", "slow-a"]),
        (["@night"], ["slow-a", "slow-b", "bills"]),
        (["*", "!@night"], ["a.b", "axb", "mail"]),
        (["@unknown", "@odd", "@nested"], ["mail"]),
        (["mail", "!@not"], ["mail"]),
        (["node#"], ["node#"]),
        (["!mail"], []),
    ],
)
def test_what_a_list_comes_to(elements: list[str], queues: list[str]) -> None:
    assert resolve(elements, KNOWN, LISTS) == queues


def test_whom_a_wake_up_concerns() -> None:
    assert Reach(["mail"]).touches({"mail", "x"})
    assert not Reach(["mail"]).touches({"x"})
    assert Reach(["*", "!slow-*"]).touches({"slow-a", "new"})
    assert not Reach(["*", "!slow-*"]).touches({"slow-a", "node#"})
    assert Reach(["@night"]).touches({"anything"})
    assert may_serve(["*", "!a", "a"], "a")
    assert not may_serve(["!@night"], "a")
