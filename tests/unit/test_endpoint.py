"""A DSN says where the server is and how to get in; what is shown of it never holds the password."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.dsn import Endpoint, TlsOptions
from rrqd.exc import StoreRefused, StoreUnavailable
from rrqd.redact import redact
from rrqd.store import tls
from rrqd.store.replies import ServerSaid, understand


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("redis://h", {"host": "h", "port": 6379, "db": 0, "tls": None, "path": None}),
        ("redis://h:7000/3", {"host": "h", "port": 7000, "db": 3}),
        ("redis://h?db=4", {"host": "h", "db": 4}),
        ("redis://:6380", {"host": "localhost", "port": 6380}),
        ("redis://[::1]:7000/1", {"host": "::1", "port": 7000, "db": 1}),
        ("rediss://h:6380/0", {"host": "h", "port": 6380, "tls": TlsOptions()}),
        ("valkey://h/2", {"host": "h", "db": 2, "tls": None}),
        ("valkeys://h", {"host": "h", "tls": TlsOptions()}),
        ("unix:///run/valkey/valkey.sock", {"path": "/run/valkey/valkey.sock", "db": 0, "tls": None}),
        ("unix:///run/valkey.sock?db=2", {"path": "/run/valkey.sock", "db": 2}),
        ("redis+unix:///run/valkey.sock", {"path": "/run/valkey.sock"}),
        ("redis://a:1,b,[::1]:2/3", {"places": (("a", 1), ("b", 6379), ("::1", 2)), "db": 3, "master": None}),
        ("redis+sentinel://a,b:7/main/3", {"places": (("a", 26379), ("b", 7)), "master": "main", "db": 3}),
        ("valkeys+sentinel://a/main", {"master": "main", "db": 0, "tls": TlsOptions()}),
        ("rediss://h?ssl_ca_certs=/ca.pem", {"tls": TlsOptions(ca_certs="/ca.pem")}),
        ("rediss://h?ssl_cert_reqs=none", {"tls": TlsOptions(verify="none", check_hostname=False)}),
        ("rediss://h?ssl_check_hostname=False", {"tls": TlsOptions(check_hostname=False)}),
        ("rediss://h?ssl_certfile=/c&ssl_keyfile=/k", {"tls": TlsOptions(certfile="/c", keyfile="/k")}),
        ("redis://h?max_connections=many&decode_responses=1&protocol=3", {"host": "h"}),
    ],
)
def test_every_scheme_is_read(dsn: str, place: dict[str, Any]) -> None:
    endpoint = Endpoint.parse(dsn)

    assert {name: getattr(endpoint, name) for name in place} == place
    assert (endpoint.username, endpoint.password, endpoint.shown) == (None, None, dsn)


@pytest.mark.parametrize(
    ("dsn", "username", "password", "shown"),
    [
        ("redis://u:p@h/1", "u", "p", "redis://u:***@h/1"),
        ("redis://:p@h", None, "p", "redis://:***@h"),
        ("redis://u@h", "u", None, "redis://u@h"),
        ("valkeys://u:p@h:6380", "u", "p", "valkeys://u:***@h:6380"),
        ("unix://u:p@/run/valkey.sock", "u", "p", "unix://u:***@/run/valkey.sock"),
        ("redis://u:p@[::1]:7000", "u", "p", "redis://u:***@[::1]:7000"),
        ("redis://:p%40s%2Fs%3A%23%3F%25@h/1", None, "p@s/s:#?%", "redis://:***@h/1"),
        ("redis://:p@ss:w@h", None, "p@ss:w", "redis://:***@h"),
        ("redis://ü:ß@h", "ü", "ß", "redis://ü:***@h"),
        ("redis://h/0?password=p", None, "p", "redis://h/0?password=***"),
    ],
)
def test_user_and_password_are_read_and_only_the_user_is_shown(
    dsn: str, username: str | None, password: str | None, shown: str
) -> None:
    endpoint = Endpoint.parse(dsn)

    assert (endpoint.username, endpoint.password, endpoint.shown) == (username, password, shown)


@pytest.mark.parametrize(
    ("dsn", "sentence"),
    [
        ("", "must start with redis://, rediss://, valkey://, valkeys://, unix:// or redis"),
        ("redis://", "names no host; write redis://localhost:6379/0"),
        ("u:secret@h", "must start with redis://"),
        ("http://u:secret@h", "must start with redis://"),
        ("REDIS://h", "must start with redis://"),
        ("redis://h:abc", "the host or the port can't be read"),
        ("redis://h:99999", "the host or the port can't be read"),
        ("redis://h:0", "the host or the port can't be read"),
        ("redis://[::1", "the host or the port can't be read"),
        ("redis://a b", "the host or the port can't be read"),
        ("redis://:secret/word@h", "can't be read \\(in a password write %2F for /"),
        ("redis://:secret#word@h", "can't be read \\(in a password"),
        ("redis://:secret?word@h", "can't be read \\(in a password"),
        ("redis://:123?secret&word@h", "can't be read \\(in a password"),
        ("redis://u:secret@h/mail", "the part after the last slash must be the database number"),
        ("redis://h/1/2", "the part after the last slash"),
        ("redis://h/-1", "the part after the last slash"),
        ("unix://run/valkey.sock", "names no socket file; write unix:///run"),
        ("unix://u:secret@", "names no socket file"),
        ("redis+sentinel://a:1,b:2", "names no server; write redis[+]sentinel://host:26379,host:26379/mymaster/0"),
        ("redis+sentinel://a/main/x", "the part after the last slash"),
        ("rediss://u:secret@h?ssl_ca_cert=/x", 'has an unknown option "ssl_ca_cert"; did you mean "ssl_ca_certs"'),
        ("redis://h?colour=red", 'has an unknown option "colour"; known: db, password, sentinel_password'),
        ("rediss://h?ssl_cert_reqs=optional", 'ssl_cert_reqs must be "required" or "none", not "optional"'),
        ("rediss://h?ssl_check_hostname=maybe", 'ssl_check_hostname must be "true" or "false"'),
        ("rediss://h?ssl_keyfile=/k", "ssl_keyfile needs ssl_certfile"),
    ],
)
def test_what_cannot_be_read_is_refused_without_a_word_of_the_password(dsn: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        Endpoint.parse(dsn)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(text=st.text(st.sampled_from("redis:/@?#&=,[]123ab.+sentinel%"), max_size=60))
def test_whatever_is_written_is_read_or_refused(text: str) -> None:
    for dsn in (text, f"redis://{text}", f"redis+sentinel://{text}", f"unix://{text}"):
        try:
            endpoint = Endpoint.parse(dsn)
        except ValueError:
            continue
        assert all(0 < port < 65536 for _, port in endpoint.places)


@given(password=st.text(st.characters(codec="ascii", exclude_categories=["Cc", "Z"]), min_size=1))
def test_no_part_of_a_password_is_shown_however_it_is_typed(password: str) -> None:
    dsn = f"redis://user:{password}@example.org:6379/0"

    assert redact(dsn) == redact("redis://user:x@example.org:6379/0") == "redis://user:***@example.org:6379/0"


def test_every_password_of_a_text_is_hidden() -> None:
    assert redact("from redis://a:b@c to redis://d:e@f?token=g&db=1") == (
        "from redis://a:***@c to redis://d:***@f?token=***&db=1"
    )
    assert redact("rediss://h?ssl_password=key&ssl_keyfile=/k") == "rediss://h?ssl_password=***&ssl_keyfile=/k"
    assert redact("no DSN at all, 5 @ 10:30") == "no DSN at all, 5 @ 10:30"


def test_the_settings_of_tls_are_those_of_the_query() -> None:
    strict = tls.context(Endpoint.parse("rediss://h"))
    loose = tls.context(Endpoint.parse("valkeys://h?ssl_cert_reqs=none"))

    assert strict is not None
    assert loose is not None
    assert (strict.verify_mode, strict.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert (loose.verify_mode, loose.check_hostname) == (ssl.CERT_NONE, False)
    assert strict.minimum_version == ssl.TLSVersion.TLSv1_2
    assert tls.context(Endpoint.parse("redis://h")) is None


@pytest.mark.parametrize(
    "word",
    [
        "LOADING",
        "BUSY",
        "MASTERDOWN",
        "TRYAGAIN",
        "CLUSTERDOWN",
        "READONLY",
        "MOVED 3",
        "ASK 3",
        "ERR Attempted to access a non local key in a cluster node script: on",
        "ERR Script attempted to access a non local key in a cluster node",
    ],
)
def test_an_answer_that_means_not_now_may_be_asked_again(word: str) -> None:
    assert isinstance(understand(Exception(f"{word} come back later")), StoreUnavailable)


@pytest.mark.parametrize(
    "text",
    ["OOM command not allowed", "NOAUTH Authentication required.", "WRONGPASS invalid",
     "NOPERM no permissions", "ERR ACL failure in script: User app has no permissions to run the 'zadd' command",
     "MISCONF Errors writing", "ERR script failed: OOM command not allowed when used memory"],
)  # fmt: skip
def test_an_answer_that_means_no_says_so(text: str) -> None:
    fault = understand(Exception(text))

    assert isinstance(fault, StoreRefused)
    assert text in str(fault)


def test_any_other_answer_keeps_its_first_word() -> None:
    fault = understand(Exception("NOSCRIPT No matching script."))

    assert isinstance(fault, ServerSaid)
    assert fault.code == "NOSCRIPT"
