"""Who may wait for whom: the options, and the order in which a batch is written."""

from __future__ import annotations

import pytest

from rrqd.exc import InvalidRequest
from rrqd.model.family import MAX_PARENTS, OnParent, parents_first, read_parents
from tests.support.moves import job


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ({}, ((), OnParent.HOLD)),
        ({"depends_on": "a"}, (("a",), OnParent.HOLD)),
        ({"depends_on": ["a", "b", "a"], "on_parent": "run"}, (("a", "b"), OnParent.RUN)),
        ({"depends_on": (), "on_parent": "cancel"}, ((), OnParent.CANCEL)),
    ],
)
def test_what_may_be_written(given: dict[str, object], read: tuple[object, ...]) -> None:
    assert read_parents(given) == read


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"depends_on": 7}, "depends_on must be a list of job ids, not int"),
        ({"depends_on": [7]}, "depends_on must be text"),
        ({"depends_on": [" "]}, "depends_on cannot be blank"),
        ({"on_parent": "die"}, "on_parent must be one of 'hold', 'cancel', 'run', not 'die'"),
        ({"depends_on": [str(n) for n in range(MAX_PARENTS + 1)]}, "at most 1000"),
        ({"depends_on": ["a"], "debounce_key": "k"}, "beside debounce_key"),
    ],
)
def test_what_may_not(given: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidRequest, match=words):
        read_parents(given)


def test_parents_come_first_and_all_else_stays_in_order() -> None:
    batch = [job("c", parents=("b", "a")), job("x"), job("b", parents=("a", "elsewhere")), job("a"), job("y")]

    assert [batch[at].id for at in parents_first(batch)] == ["a", "b", "c", "x", "y"]
    assert parents_first(batch[3:]) == [0, 1]


@pytest.mark.parametrize(
    ("pairs", "circle"),
    [
        ([("a", ("a",))], "a -> a"),
        ([("a", ("b",)), ("b", ("a",))], "a -> b -> a"),
        ([("x", ("a",)), ("a", ("b",)), ("b", ("c",)), ("c", ("a",))], "a -> b -> c -> a"),
    ],
)
def test_a_circle_is_refused_by_name(pairs: list[tuple[str, tuple[str, ...]]], circle: str) -> None:
    with pytest.raises(InvalidRequest, match=f"in a circle: {circle}$"):
        parents_first([job(one, parents=parents) for one, parents in pairs])


def test_a_long_chain_needs_no_deep_stack() -> None:
    chain = [job(str(n), parents=(str(n + 1),)) for n in range(5000)]
    assert parents_first(chain) == list(range(4999, -1, -1))
