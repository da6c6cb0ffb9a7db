"""Names that are given once: of nodes."""

from __future__ import annotations

import re
import secrets
import socket


def new_node_id() -> str:
    """`<hostname>-<6 hex>`: one per run, so that nothing of an earlier run can be taken for ours."""
    host = re.sub(r"[^A-Za-z0-9-]+", "-", socket.gethostname().split(".")[0]).strip("-")[:40] or "node"
    return f"{host}-{secrets.token_hex(3)}"
