"""Who asks, and what they may do. Decided on the server for every request; nothing here trusts a page.

* On a loopback address visitors are the people of this machine: `local_role`. On any other address a visitor needs a
  token, or a proxy that vouches for him; without either, dashboard and API answer 403 and say what to configure.
* A request that changes something is a POST of an operator from our own pages or from a program: what a browser sends
  on behalf of a foreign page carries `Sec-Fetch-Site` or `Origin`, and is refused.
* Bodies are small and requests are counted: one visitor can't keep the others out.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.exceptions import HTTPException
from starlette.requests import Request

from rrqd import clock

if TYPE_CHECKING:
    from rrqd.config.web_table import WebSettings

ROLES = ("none", "viewer", "operator")
MOST_BODY_BYTES = 1_048_576
BURST_REQUESTS = 200.0
REQUESTS_A_SECOND = 50.0
MOST_BUCKETS = 10_000


@dataclass(frozen=True, slots=True)
class Visitor:
    """`name` stands in the audit; `role` is one of `ROLES`: none, viewer or operator. Raises ValueError for another."""

    name: str
    role: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise ValueError(f"{self.role!r} is no role; there are {', '.join(ROLES)}")

    def may(self, role: str) -> bool:
        return ROLES.index(self.role) >= ROLES.index(role)


class Access:
    """`is_local`: the daemon listens on loopback only."""

    def __init__(self, web: WebSettings, is_local: bool) -> None:
        self.web = web
        self.is_local = is_local
        self._buckets: dict[str, tuple[float, float]] = {}

    def admit(self, request: Request, role: str) -> Visitor:
        """The visitor, if he may do what needs this role. Raises HTTPException 401, 403 or 429."""
        peer = request.client.host if request.client else ""
        self._count(peer, clock.monotonic())
        visitor = self.identify(request)
        if visitor is None:
            challenge = {"www-authenticate": 'Basic realm="rrqd", charset="UTF-8"'}
            raise HTTPException(401, "name and token are needed, and must be right", challenge)
        if not visitor.may(role):
            raise HTTPException(403, self._why_not(visitor, role))
        if request.method not in ("GET", "HEAD"):
            refuse_foreign_pages(request.headers)
        return visitor

    def identify(self, request: Request) -> Visitor | None:
        """Who this is. None: credentials are asked for."""
        web, headers, peer = self.web, request.headers, request.client.host if request.client else ""
        if web.proxy_header is not None and peer in web.proxies and headers.get(web.proxy_header.lower()):
            return Visitor(headers[web.proxy_header.lower()], web.proxy_role)
        if web.tokens_file is not None and (said := headers.get("authorization")) is not None:
            return find(read_tokens(Path(web.tokens_file)), said)
        if self.is_local and web.local_role != "none":
            return Visitor("local", web.local_role)
        return None if web.tokens_file is not None else Visitor("stranger", "none")

    def _why_not(self, visitor: Visitor, role: str) -> str:
        if visitor.role == "none":
            return self.why_closed()
        return f"{visitor.name} is a {visitor.role}; this needs an {role}"

    def why_closed(self) -> str:
        """For whom nobody vouches."""
        return "dashboard and API are closed here: set rrqd.web.tokens_file, or a proxy_header with its proxies"

    def _count(self, peer: str, now: float) -> None:
        left, at = self._buckets.get(peer, (BURST_REQUESTS, now))
        left = min(BURST_REQUESTS, left + (now - at) * REQUESTS_A_SECOND) - 1.0
        if len(self._buckets) >= MOST_BUCKETS:
            self._buckets.clear()
        self._buckets[peer] = (max(left, 0.0), now)
        if left < 0:
            raise HTTPException(429, "too many requests; slow down", {"retry-after": "1"})


def refuse_foreign_pages(headers: Mapping[str, str]) -> None:
    """A browser says where a request comes from, in one header or the other; programs send neither."""
    site = headers.get("sec-fetch-site")
    if site is not None and site not in ("same-origin", "none"):
        raise HTTPException(403, "this request comes from another site's page")
    origin = headers.get("origin")
    if site is None and origin is not None and urlsplit(origin).netloc != headers.get("host"):
        raise HTTPException(403, f"this request comes from {origin[:100]}, which is not this site")


def read_tokens(path: Path) -> list[tuple[str, str, str]]:
    """(role, name, token) of each line. Read anew each time, so that a token can be taken away at once.

    Raises HTTPException 500 with what is wrong with the file, without its content.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as fault:
        raise HTTPException(500, f"rrqd.web.tokens_file can't be read: {type(fault).__name__}") from None
    tokens = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 3 or words[0] not in ROLES[1:] or len(words[2]) < 16:
            raise HTTPException(
                500,
                f"rrqd.web.tokens_file, line {number}: write role, name and token (16 characters or more); "
                "roles are viewer and operator",
            )
        tokens.append((words[0], words[1], words[2]))
    return tokens


def find(tokens: list[tuple[str, str, str]], authorization: str) -> Visitor | None:
    """Whose token this is: ``Bearer <token>``, or ``Basic`` with the name and the token as password."""
    scheme, _, value = authorization.partition(" ")
    said_name, said = None, value.strip()
    if scheme.lower() == "basic":
        try:
            decoded = base64.b64decode(said, validate=True).decode()
        except (binascii.Error, UnicodeDecodeError):
            return None
        said_name, _, said = decoded.partition(":")
    elif scheme.lower() != "bearer":
        return None
    found = None
    for role, name, token in tokens:  # all of them: the time taken must not tell which one was nearly right
        if hmac.compare_digest(token.encode(), said.encode()) and said_name in (None, name):
            found = Visitor(name, role)
    return found
