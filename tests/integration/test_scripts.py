"""The scripts as programs: there is room in each for what comes next."""

from __future__ import annotations

import pytest

from rrqd.store import Store
from rrqd.store.scripts import digests, script
from tests.support.moves import raw


@pytest.mark.parametrize("name", sorted(digests().values()))
async def test_a_script_has_room_for_more(store: Store, name: str) -> None:
    """Lua allows 200 locals in one function, and a script with all its pieces is one."""
    shebang, _, body = script(name).text.partition("\n")
    more = "".join(f"local more_{nth} = 1\n" for nth in range(5))
    await raw(store, "SCRIPT", "LOAD", f"{shebang}\n{more}{body}")
