"""The store beside its model in plain Python (``tests/property``), under moves in any order, new ones every time: is
any job elsewhere than there, or anything left over? A part of `python -m bench.soak`.

On the server that ``RRQD_TEST_BINARY`` names, else on the embedded Valkey.
"""

from __future__ import annotations

import re
import time
import traceback

from bench.sheet import Sheet
from tests.property.machines import run_machine
from tests.support.server import Server

#: Orders of moves that are tried in one go; about fifty moves each.
AT_ONCE = 200


def model(sheet: Sheet, long: bool) -> None:
    """Half a million moves, or five thousand."""
    wanted, moves, began = 500_000 if long else 5_000, 0, time.monotonic()
    server = Server()
    try:
        name = _name(server)
        while moves < wanted:
            moves += run_machine(server.dsn, AT_ONCE if long else AT_ONCE // 4, new=True)
            if long:
                print(f"{name}: {moves:,} moves in {time.monotonic() - began:.0f} s", flush=True)
    except AssertionError as difference:
        traceback.print_exception(difference)
        sheet.broken(f"model: after {moves:,} moves on {name}: {difference}")
    finally:
        server.remove()
    sheet.add("model", f"moves on {name}, compared after each", "", moves)


def _name(server: Server) -> str:
    """Flavour and version."""
    found = dict(re.findall(r"(redis|valkey)_version:(\S+)", server.ask("INFO", "server").decode()))
    return f"Valkey {found['valkey']}" if "valkey" in found else f"Redis {found['redis']}"
