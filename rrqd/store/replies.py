"""What a server's error replies mean: ask again, don't ask again, or something only the caller can judge."""

from __future__ import annotations

from rrqd.exc import StoreError, StoreRefused, StoreUnavailable

#: "Not now": nothing happened, ask again.
PASSING = ("LOADING", "BUSY", "TRYAGAIN", "CLUSTERDOWN", "UNKILLABLE", "ASK")
#: From a server that is not the one to talk to any more (a fail-over, a slot that moved): the same, over a new
#: connection.
DEMOTED = ("READONLY", "MASTERDOWN", "UNBLOCKED", "MOVED")
#: "No": nothing happened, and asking again soon won't help.
REFUSING = ("OOM", "MISCONF", "NOPERM", "NOAUTH", "WRONGPASS", "NOREPLICAS", "DENIED")
#: A script met a key that is on its way to another node of the cluster. (Redis says "Script attempted to", Valkey
#: "Attempted to".)
MOVING = "access a non local key"


class ServerSaid(StoreError):
    """An error reply with no special meaning here; ``code`` is its first word."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = text.partition(" ")[0]


def understand(reply: Exception) -> StoreError:
    """The exception for an error reply."""
    text = str(reply)
    code = text.partition(" ")[0]
    if code in PASSING or code in DEMOTED or MOVING in text:
        return StoreUnavailable(f"The server is not ready: {text}")
    if code == "NOPERM" or "ACL failure in script" in text:
        return StoreRefused(f"The server refused: {_plain(text)}; docs/connections.md has the rights that rrqd needs")
    if code in REFUSING or "-OOM" in text[:80] or "OOM command not allowed" in text:
        return StoreRefused(f"The server refused: {text}")
    return ServerSaid(text)


def leads_elsewhere(reply: Exception) -> bool:
    """Whether this server will go on answering so, and another is to be looked for."""
    return str(reply).startswith(DEMOTED)


def _plain(text: str) -> str:
    """A refusal without the script's line numbers, in which the right that is missing stands first."""
    return text.partition(" script: on ")[0].rstrip(". ")
