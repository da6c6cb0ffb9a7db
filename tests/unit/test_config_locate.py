"""The locator agrees with tomllib about which keys there are, and with the eye about their lines."""

from __future__ import annotations

import tomllib
from typing import Any

import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from rrqd.config.locate import Path, locate

NASTY = '''\
# timeout = 1
top = "a # not a comment"
text = """
[not.a.table]
timeout = 9
\\""" still inside
"""
raw = \'\'\'x = [1, "\'\'\'

[ a . "b.c" ]  # [[x]]
numbers = [
  1, # two
  [2, 3],
  { k = "v", "deep".er = [ true ] },
]
inline = { x = 1, y = { z = "}" } }
when = 1979-05-27 07:32:00
dotted.one.two = 'it''s'.x
[[jobs]]
name = "first"
[jobs.params]
p = 1
[[jobs]]
name = "second"
  [[jobs.steps]]
  s = 1
  [[jobs.steps]]
  s = 2
'''.replace("'it''s'.x", "'it'")


def paths(value: Any, path: Path = ()) -> set[Path]:
    found = {path} if path else set()
    if isinstance(value, dict):
        for name, inner in value.items():
            found |= paths(inner, (*path, name))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found |= paths(inner, (*path, index))
    return found


def test_every_key_of_a_nasty_file_is_found_and_nothing_else() -> None:
    assert set(locate(NASTY)) == paths(tomllib.loads(NASTY))


def test_lines_are_those_an_editor_shows() -> None:
    lines = locate(NASTY)
    at = dict(enumerate(NASTY.splitlines(), 1))
    for path, text in {
        ("top",): "top",
        ("text",): "text",
        ("a", "b.c"): "[ a",
        ("a", "b.c", "numbers", 1): "  [2",
        ("a", "b.c", "numbers", 2, "deep", "er"): "  { k",
        ("a", "b.c", "inline", "y", "z"): "inline",
        ("a", "b.c", "dotted", "one", "two"): "dotted",
        ("jobs",): "[[jobs]]",
        ("jobs", 0, "params", "p"): "p = 1",
        ("jobs", 1, "name"): 'name = "second"',
        ("jobs", 1, "steps", 1, "s"): "  s = 2",
    }.items():
        assert at[lines[path]].startswith(text), path


def test_a_table_that_is_opened_twice_keeps_the_line_of_its_own_header() -> None:
    assert locate("[a.b]\nx = 1\n[a]\ny = 2\n")[("a",)] == 3


def test_windows_line_ends_do_not_shift_lines() -> None:
    assert locate("a = 1\r\n\r\nb = '''\r\n'''\r\nc = 2\r\n") == {("a",): 1, ("b",): 3, ("c",): 5}


keys = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=6)
text = st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), max_size=20)
scalars = st.booleans() | st.integers(-9, 9) | text | st.floats(allow_nan=False) | st.dates()
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3), max_leaves=12
)


@given(st.dictionaries(keys, values, max_size=5), st.booleans())
def test_whatever_tomllib_reads_is_located(document: dict[str, Any], multiline: bool) -> None:
    written = tomli_w.dumps(document, multiline_strings=multiline)
    assert set(locate(written)) == paths(tomllib.loads(written))
