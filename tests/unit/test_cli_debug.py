"""Which worker `rrqd debug` means, and how it takes apart what a worker says."""

from __future__ import annotations

import click
import pytest

from rrqd.cli.console_command import Place, choose, pieces
from rrqd.exc import RRQError

DEFAULT = [Place("default", 0, 2, 10), Place("default", 1, 1, 11), Place("default", 1, 2, 12)]
TWO_POOLS = [*DEFAULT, Place("mail", 0, 2, 13)]


def test_a_slot_is_named_with_its_pool_or_without_where_there_is_one() -> None:
    assert choose(DEFAULT, "default/0").pid == 10
    assert choose(DEFAULT, "0").pid == 10
    assert choose(TWO_POOLS, "mail/0").pid == 13


def test_the_newest_of_a_slot_is_meant_unless_another_is_named() -> None:
    assert choose(DEFAULT, "default/1").pid == 12
    assert choose(DEFAULT, "1", generation=1).pid == 11


@pytest.mark.parametrize(
    ("wanted", "generation", "line"),
    [
        ("0", None, "there is more than one pool, so say which: default/0, mail/0"),
        ("7", None, "there is no worker 7; there are: default/0 g2, default/1 g1, default/1 g2, mail/0 g2"),
        ("web/0", None, "there is no worker web/0; there are: default/0 g2"),
        ("mail/0", 1, "there is no worker mail/0 of generation 1; there are: "),
    ],
)
def test_what_is_not_there_or_not_clear_is_said_with_what_there_is(
    wanted: str, generation: int | None, line: str
) -> None:
    with pytest.raises(RRQError) as refused:
        choose(TWO_POOLS, wanted, generation)
    assert str(refused.value).startswith(line)


def test_no_worker_at_all_is_said_too() -> None:
    with pytest.raises(RRQError, match="there are: none"):
        choose([], "default/0")


@pytest.mark.parametrize("wanted", ["default", "default/", "/", "a/b/0", "", "default/-1"])
def test_what_is_no_slot_is_wrong_usage(wanted: str) -> None:
    with pytest.raises(click.BadParameter):
        choose(DEFAULT, wanted)


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_answers_and_prompts_are_told_apart_however_they_arrive(size: int) -> None:
    said = "hé\n\0>>> 1\n2\n\0... \0bye \n".encode()
    chunks = iter([said[at : at + size] for at in range(0, len(said), size)])
    found = list(pieces(lambda: next(chunks, b"")))
    text = "".join(text if not is_turn else f"<{text}>" for is_turn, text in found)
    assert text == "hé\n<>>> >1\n2\n<... ><bye >\n"
