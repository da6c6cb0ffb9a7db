"""The page on runners: its configurations are good, and its table of messages is the protocol's."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest

from rrqd.bridge import protocol
from rrqd.config.loader import parse

PAGE = (Path(__file__).parents[2] / "docs" / "runners.md").read_text()
BLOCKS = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("text", BLOCKS)
def test_each_configuration_gives_a_pool_with_its_runner(text: str) -> None:
    settings = parse(text, Path("rrq.toml"), {}).settings
    assert {pool.runner for pool in settings.rrqd.pools.values()} == set(settings.rrq.runners)


@pytest.mark.parametrize("message", [protocol.Request, protocol.Response, protocol.Cancel])
def test_the_fields_of_each_message_are_told(message: type[msgspec.Struct]) -> None:
    row = next(line for line in PAGE.splitlines() if line.startswith(f"| `{message.__name__.lower()}` |"))
    assert set(re.findall(r"`(\w+)`", row)) >= set(message.__struct_fields__) - {"hard_kill", "protocol_version"}
