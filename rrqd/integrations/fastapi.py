"""FastAPI: Starlette's lifespan, and the client as a parameter of an endpoint.

app = FastAPI(lifespan=lifespan(tasks))

@app.post("/reports/{day}")
async def order(day: str, jobs: Client) -> dict[str, str]:
    return {"job": await jobs.enqueue("report", {"params": {"day": day}})}
"""

from __future__ import annotations

from typing import Annotated

from rrqd.client import RRQClient
from rrqd.integrations.starlette import client, lifespan

try:
    from fastapi import Depends
except ImportError:
    raise ImportError("FastAPI is not installed: pip install 'rrqd[fastapi]'") from None

#: The type of a parameter that gets the application's client.
Client = Annotated[RRQClient, Depends(client)]

__all__ = ["Client", "client", "lifespan"]
