"""The rights that docs/connections.md asks for are those that rrqd's commands need: none is missing, none is idle."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
STORE = ROOT / "rrqd" / "store"

#: What the server's ``ACL`` does not ask about, or what is said to other servers than the one with the jobs.
ELSEWHERE = {"hello", "sentinel", "cluster|slots", "shutdown"}
#: Time is moved on a test's own server; RQ's keys lie on RQ's.
OTHER_SERVERS = ("rewinding.py", "rq_source.py")
CONTAINERS = {"client", "cluster"}


def rights() -> list[str]:
    """The words of the ``ACL SETUSER`` line on the page, after user and password."""
    line = re.search(r"(?m)^ACL SETUSER rrqd on >secret (.+?)(?<!\\)$", page().replace("\\\n", ""))
    assert line is not None
    return line[1].split()


def page() -> str:
    return (ROOT / "docs" / "connections.md").read_text()


def commands() -> set[str]:
    """Every command in the store's Python and Lua, as rights name them."""
    found = set()
    for file in STORE.rglob("*.lua"):
        found |= {name.lower() for name in re.findall(r"redis\.p?call\(\s*'(\w+)'", file.read_text())}
    for file in STORE.rglob("*.py"):
        if file.name in OTHER_SERVERS:
            continue
        for name, first in re.findall(r"\bcall\(\s*\"([A-Z]+)\"(?:,\s*\"([A-Z-]+)\")?", file.read_text()):
            found.add(f"{name}|{first}".lower() if name.lower() in CONTAINERS else name.lower())
    return found - ELSEWHERE


def test_every_command_that_is_used_is_allowed_and_no_other() -> None:
    allowed = {word[1:] for word in rights() if word.startswith("+")}
    assert {"enqueue": "zadd" in allowed, "wake": "client|tracking" in allowed} == {"enqueue": True, "wake": True}
    assert allowed == commands()


def test_commands_are_told_to_the_server_by_name_so_that_they_can_be_found() -> None:
    for file in STORE.rglob("*.lua"):
        text = re.sub(r"--[^\n]*", "", file.read_text())
        calls = re.findall(r"redis\.p?call\(\s*([^\s,)]+)", text)
        assert [call for call in calls if not call.startswith("'") and call != "..."] == [], file.name


def test_only_the_two_prefixes_and_our_channels_are_asked_for() -> None:
    assert [word for word in rights() if word[0] in "~&"] == ["~rrq:*", "~rrqd:*", "&rrqd:*"]
    assert "-@all" in rights()
