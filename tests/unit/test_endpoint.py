"""A DSN says where the server is and how to get in; what is shown of it never holds the password."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rrqd.exc import StoreRefused, StoreUnavailable
from rrqd.redact import redact
from rrqd.store.connection import Endpoint, ServerSaid, understand


@pytest.mark.parametrize(
    ("dsn", "place"),
    [
        ("redis://h", {"host": "h", "port": 6379, "db": 0, "tls": False, "path": None}),
        ("redis://h:7000/3", {"host": "h", "port": 7000, "db": 3}),
        ("redis://h?db=4", {"host": "h", "db": 4}),
        ("redis://:6380", {"host": "localhost", "port": 6380}),
        ("redis://[::1]:7000/1", {"host": "::1", "port": 7000, "db": 1}),
        ("rediss://h:6380/0", {"host": "h", "port": 6380, "tls": True}),
        ("valkey://h/2", {"host": "h", "db": 2, "tls": False}),
        ("valkeys://h", {"host": "h", "tls": True}),
        ("unix:///run/valkey/valkey.sock", {"path": "/run/valkey/valkey.sock", "db": 0, "tls": False}),
        ("unix:///run/valkey.sock?db=2", {"path": "/run/valkey.sock", "db": 2}),
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
        ("", "a DSN begins with redis://, rediss://, unix://, valkey://, valkeys://, not with something else"),
        ("redis://", "a DSN begins with redis://"),
        ("u:secret@h", "not with something else"),
        ("http://u:secret@h", "not with http://"),
        ("REDIS://h", "not with REDIS://"),
        ("redis://h:abc", "the host or the port in redis://h:abc cannot be read"),
        ("redis://h:99999", "the host or the port in redis://h:99999 cannot be read"),
        ("redis://[::1", "the host or the port"),
        ("redis://:secret/word@h", "in redis://:\\*\\*\\*@h cannot be read \\(in a password write %2F for /"),
        ("redis://:secret#word@h", "in redis://:\\*\\*\\*@h cannot be read"),
        ("redis://:secret?word@h", "in redis://:\\*\\*\\*@h cannot be read"),
        ("redis://u:secret@h/mail", "the part after the last slash of redis://u:\\*\\*\\*@h/mail must be the database"),
        ("redis://h/1/2", "the part after the last slash"),
        ("redis://h/-1", "the part after the last slash"),
        ("unix://run/valkey.sock", "names no socket file; write unix:///run"),
        ("unix://u:secret@", "names no socket file"),
        ("redis://u:secret@h?max_connections=many", "Invalid value for 'max_connections'"),
    ],
)
def test_what_cannot_be_read_is_refused_without_a_word_of_the_password(dsn: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as caught:
        Endpoint.parse(dsn)

    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


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
    strict = Endpoint.parse("rediss://h").tls_context()
    loose = Endpoint.parse("valkeys://h?ssl_cert_reqs=none&ssl_check_hostname=false").tls_context()

    assert isinstance(strict, ssl.SSLContext)
    assert isinstance(loose, ssl.SSLContext)
    assert (strict.verify_mode, loose.verify_mode) == (ssl.CERT_REQUIRED, ssl.CERT_NONE)
    assert Endpoint.parse("redis://h").tls_context() is None


@pytest.mark.parametrize("word", ["LOADING", "BUSY", "MASTERDOWN", "TRYAGAIN", "CLUSTERDOWN", "READONLY"])
def test_an_answer_that_means_not_now_may_be_asked_again(word: str) -> None:
    assert isinstance(understand(Exception(f"{word} come back later")), StoreUnavailable)


@pytest.mark.parametrize(
    "text",
    ["OOM command not allowed", "NOAUTH Authentication required.", "WRONGPASS invalid",
     "NOPERM no permissions", "MISCONF Errors writing", "ERR script failed: OOM command not allowed when used memory"],
)  # fmt: skip
def test_an_answer_that_means_no_says_so(text: str) -> None:
    fault = understand(Exception(text))

    assert isinstance(fault, StoreRefused)
    assert text in str(fault)


def test_any_other_answer_keeps_its_first_word() -> None:
    fault = understand(Exception("NOSCRIPT No matching script."))

    assert isinstance(fault, ServerSaid)
    assert fault.code == "NOSCRIPT"
