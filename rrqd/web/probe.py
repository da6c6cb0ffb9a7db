"""`python -m rrqd.web.probe [livez|readyz|startupz]`: asks the daemon beside us, for a container's HEALTHCHECK.

It asks where the configuration says that the daemon listens (`RRQ_CONFIG`, else `rrq.toml` in the current folder), so
that nobody has to name the port twice. Exit code 0 for yes, 1 for no or no answer, 78 for a configuration that can't be
read. What is wrong goes to stdout, where Docker keeps it.
"""

from __future__ import annotations

import http.client
import json
import sys

from rrqd.config.loader import load
from rrqd.exc import ConfigError

QUESTIONS = ("livez", "readyz", "startupz")
PATIENCE_SECONDS = 3.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Who listens on all addresses is asked on its own machine's."""


def main(argv: list[str]) -> int:
    question = argv[0] if argv else "livez"
    if question not in QUESTIONS or len(argv) > 1:
        print(f"usage: python -m rrqd.web.probe [{'|'.join(QUESTIONS)}]", file=sys.stderr)
        return 2
    try:
        address = load().settings.rrqd.http_address
    except ConfigError as error:
        print(error)
        return 78
    if address is None:
        print('rrqd.http is "off": there is nobody to ask')
        return 0
    host, port = address
    return ask(EVERYWHERE.get(host, host), port, question)


def ask(host: str, port: int, question: str) -> int:
    """0 if the answer is yes."""
    connection = http.client.HTTPConnection(host, port, timeout=PATIENCE_SECONDS)
    try:
        connection.request("GET", f"/{question}")
        answer = connection.getresponse()
        body = answer.read().decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as error:
        print(f"no answer from {host}:{port}: {error}")
        return 1
    finally:
        connection.close()
    if answer.status == 200:
        return 0
    print(_problems(body) or f"{answer.status}: {body[:200]}")
    return 1


def _problems(body: str) -> str:
    """The problems that an answer names, in one line."""
    try:
        return "; ".join(f"{one['what']}: {one['why']}" for one in json.loads(body)["problems"])
    except (ValueError, KeyError, TypeError):
        return ""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
