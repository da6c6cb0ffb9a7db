"""Reading a DSN: where the server is, how to get in, and what TLS must hold. Pure: no file is opened, nobody is asked.

Rule 1: what can't be used is refused here, by the file's check as by the client: a mistyped ``ssl_`` option that is
passed over would be a hole. Options of other programs' connection pools are the exception: they mean nothing here.
Rule 2: no message holds a password, or a part of it that was taken for something else.
"""

from __future__ import annotations

import difflib
import re
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qsl, unquote

import msgspec

from rrqd.redact import redact

DEFAULT_PORT = 6379
SENTINEL_PORT = 26379
HINT = "in a password write %2F for /, %3F for ?, %23 for #, %40 for @"


class Kind(NamedTuple):
    """What a scheme says."""

    tls: bool = False
    socket: bool = False
    sentinel: bool = False


SCHEMES = {
    "redis": Kind(),
    "rediss": Kind(tls=True),
    "valkey": Kind(),
    "valkeys": Kind(tls=True),
    "unix": Kind(socket=True),
    "redis+unix": Kind(socket=True),
    "redis+sentinel": Kind(sentinel=True),
    "rediss+sentinel": Kind(sentinel=True, tls=True),
    "valkey+sentinel": Kind(sentinel=True),
    "valkeys+sentinel": Kind(sentinel=True, tls=True),
}
TOLD = "redis://, rediss://, valkey://, valkeys://, unix:// or redis+sentinel://"

#: Options of a DSN that mean something here, and those of other programs that mean nothing here.
OPTIONS = frozenset({
    "db", "username", "password", "sentinel_username", "sentinel_password",
    "ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_cert_reqs", "ssl_check_hostname",
})  # fmt: skip
FOREIGN = frozenset({
    "protocol", "timeout", "socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry_on_timeout",
    "max_connections", "health_check_interval", "client_name", "decode_responses", "encoding", "virtual_host",
})  # fmt: skip


class TlsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """Files in PEM form. Without ``ca_certs`` and ``ca_path`` the system's authorities are trusted."""

    ca_certs: str | None = None
    ca_path: str | None = None
    certfile: str | None = None
    keyfile: str | None = None
    password: str | None = None
    verify: Literal["required", "none"] = "required"
    check_hostname: bool = True


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where the server is and how to get in. ``shown`` is the DSN without its password, for messages.

    ``places``: hosts and ports, at least one unless ``path`` is a socket. With ``master`` they are Sentinels, to be
    asked for the server of that name; else each of them is the server, or a node of the same cluster.
    """

    shown: str
    places: tuple[tuple[str, int], ...] = (("localhost", DEFAULT_PORT),)
    path: str | None = None
    db: int = 0
    username: str | None = None
    password: str | None = None
    tls: TlsOptions | None = None
    master: str | None = None
    sentinel_username: str | None = None
    sentinel_password: str | None = None

    @property
    def host(self) -> str:
        """The first place's."""
        return self.places[0][0]

    @property
    def port(self) -> int:
        """The first place's."""
        return self.places[0][1]

    @property
    def address(self) -> str:
        """What is connected to, for messages: ``host:port`` or the socket's path."""
        return self.path or show_place(self.host, self.port)

    def at(self, host: str, port: int) -> Endpoint:
        """The same way in, at one place."""
        if self.places == ((host, port),) and self.master is None:
            return self
        return msgspec.structs.replace(self, shown=show_place(host, port), places=((host, port),), master=None)

    def door(self, host: str, port: int) -> Endpoint:
        """The way into one of its Sentinels."""
        return msgspec.structs.replace(
            self, shown=f"the Sentinel at {show_place(host, port)}", places=((host, port),), master=None, db=0,
            username=self.sentinel_username, password=self.sentinel_password,
        )  # fmt: skip

    @classmethod
    def parse(cls, dsn: str) -> Endpoint:
        """Read a DSN. Raises ValueError with one sentence, in which nothing of it is shown but names of options."""
        scheme, mark, rest = dsn.partition("://")
        kind = SCHEMES.get(scheme)
        if not mark or kind is None:
            raise ValueError(f"must start with {TOLD}")
        if "#" in rest:
            raise ValueError(f"can't be read ({HINT})")
        place, options = _options(rest)
        authority, _, path = place.partition("/")
        user, _, hosts = authority.rpartition("@")
        if "@" in path and not kind.socket:
            raise ValueError(f"can't be read ({HINT})")
        username, colon, password = user.partition(":")
        common: dict[str, Any] = {
            "shown": redact(dsn),
            "username": options.get("username") or unquote(username) or None,
            "password": options.get("password", unquote(password) if colon else None),
            "tls": _tls(options) if kind.tls else None,
        }
        if kind.socket:
            return cls(**common, db=_database(options.get("db", "")), path=_socket(hosts, path))
        if not authority:
            raise ValueError(f"names no host; write {scheme}://localhost:{DEFAULT_PORT}/0")
        places = _places(hosts, SENTINEL_PORT if kind.sentinel else DEFAULT_PORT)
        if not kind.sentinel:
            return cls(**common, places=places, db=_database(options.get("db", path.strip("/"))))
        master, _, database = path.strip("/").partition("/")
        if not master:
            raise ValueError(f"names no server; write {scheme}://host:26379,host:26379/mymaster/0")
        return cls(
            **common, places=places, master=unquote(master), db=_database(options.get("db", database)),
            sentinel_username=options.get("sentinel_username"), sentinel_password=options.get("sentinel_password"),
        )  # fmt: skip


def show_place(host: str, port: int) -> str:
    """``host:port``, an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _options(rest: str) -> tuple[str, dict[str, str]]:
    """(all before the question mark, the options after it)."""
    place, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = [name for name in options if name not in OPTIONS | FOREIGN]
    if unknown and "@" in query:  # more likely a password that was cut in two: no word of it is shown
        raise ValueError(f"can't be read ({HINT})")
    for name in unknown:
        near = difflib.get_close_matches(name, OPTIONS, 1)
        hint = f'did you mean "{near[0]}"?' if near else f"known: {', '.join(sorted(OPTIONS))}"
        raise ValueError(f'has an unknown option "{name}"; {hint}')
    return place, options


def _tls(options: dict[str, str]) -> TlsOptions:
    reqs = options.get("ssl_cert_reqs", "required")
    if reqs not in ("required", "none"):
        raise ValueError(f'ssl_cert_reqs must be "required" or "none", not "{reqs}"')
    check = options.get("ssl_check_hostname", "true").lower()
    if check not in ("true", "false", "1", "0", "yes", "no"):
        raise ValueError(f'ssl_check_hostname must be "true" or "false", not "{check}"')
    if options.get("ssl_keyfile") and not options.get("ssl_certfile"):
        raise ValueError("ssl_keyfile needs ssl_certfile, the certificate that belongs to the key")
    return TlsOptions(
        ca_certs=options.get("ssl_ca_certs"),
        ca_path=options.get("ssl_ca_path"),
        certfile=options.get("ssl_certfile"),
        keyfile=options.get("ssl_keyfile"),
        password=options.get("ssl_password"),
        verify="none" if reqs == "none" else "required",
        check_hostname=reqs == "required" and check in ("true", "1", "yes"),
    )


def _database(text: str) -> int:
    if not text:
        return 0
    if not (text.isascii() and text.isdecimal()):
        raise ValueError("the part after the last slash must be the database number")
    return int(text)


def _socket(hosts: str, path: str) -> str:
    if hosts or not path.strip("/"):
        raise ValueError("names no socket file; write unix:///run/valkey/valkey.sock")
    return unquote(f"/{path}")


def _places(hosts: str, port: int) -> tuple[tuple[str, int], ...]:
    places = []
    for one in hosts.split(","):
        found = re.fullmatch(r"(\[[0-9A-Fa-f:.%]+\]|[^:\[\]\s#]*)(?::([0-9]{1,5}))?", one)
        number = int(found[2] or port) if found else 0
        if not found or not 0 < number < 65536:
            raise ValueError(f"the host or the port can't be read ({HINT})")
        places.append((found[1].strip("[]") or "localhost", number))
    return tuple(places)
