"""Run with the real rrq's Python: ``windows.py DSN CALLS``. Makes the calls (a JSON list), prints the answers."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from rrq.client import RRQClient


async def main(dsn: str, calls: list[list[Any]]) -> list[Any]:
    client = RRQClient(config={"redis_dsn": dsn})
    answers = []
    for method, *words in calls:
        try:
            answers.append(await getattr(client, method)(*words))
        except ValueError as why:
            answers.append(f"ValueError: {why}")
    await client.close()
    return answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1], json.loads(sys.argv[2])))))
