"""Who may ask for what: every way in, and every attack on it."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest
from starlette.exceptions import HTTPException
from starlette.requests import Request

from rrqd.config.web_table import WebSettings
from rrqd.web.access import BURST_REQUESTS, Access, Visitor, find, read_tokens
from rrqd.web.hiding import hide

VIEWER, OPERATOR = "v" * 20, "o" * 20


def request(method: str = "GET", peer: str = "127.0.0.1", **headers: str) -> Request:
    said = [
        (name.replace("_", "-").encode(), value.encode()) for name, value in {"host": "here:9464", **headers}.items()
    ]
    return Request({"type": "http", "method": method, "path": "/", "headers": said, "client": (peer, 1)})


def basic(name: str, token: str) -> str:
    return "Basic " + base64.b64encode(f"{name}:{token}".encode()).decode()


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    path = tmp_path / "tokens"
    path.write_text(f"# who\nviewer vera {VIEWER}\noperator olaf {OPERATOR}\n\n")
    return path


def refused(access: Access, asked: Request, role: str) -> int:
    with pytest.raises(HTTPException) as fault:
        access.admit(asked, role)
    return fault.value.status_code


def test_on_loopback_the_people_of_the_machine_are_what_the_file_says() -> None:
    for role, may, may_not in (("operator", ["viewer", "operator"], []), ("viewer", ["viewer"], ["operator"])):
        access = Access(WebSettings(local_role=role), is_local=True)
        for one in may:
            assert access.admit(request(), one) == Visitor("local", role)
        for one in may_not:
            assert refused(access, request(), one) == 403
    assert refused(Access(WebSettings(local_role="none"), is_local=True), request(), "viewer") == 403


def test_any_other_address_is_closed_until_somebody_vouches() -> None:
    with pytest.raises(HTTPException, match="tokens_file") as fault:
        Access(WebSettings(), is_local=False).admit(request(), "viewer")
    assert fault.value.status_code == 403


def test_a_token_says_who_and_what(tokens: Path) -> None:
    access = Access(WebSettings(tokens_file=str(tokens)), is_local=False)
    for said in (f"Bearer {VIEWER}", basic("vera", VIEWER)):
        assert access.admit(request(authorization=said), "viewer") == Visitor("vera", "viewer")
        assert refused(access, request(authorization=said), "operator") == 403
    assert access.admit(request(authorization=basic("olaf", OPERATOR)), "operator").name == "olaf"
    assert refused(access, request(), "viewer") == 401


@pytest.mark.parametrize(
    "said",
    [
        "Bearer ", "Bearer nothing", f"bearer x{VIEWER}", basic("olaf", VIEWER), "Basic !!", "Basic /w==", "Digest x",
        "x" * 9000,
    ],
)  # fmt: skip
def test_a_wrong_token_is_asked_for_again(tokens: Path, said: str) -> None:
    access = Access(WebSettings(tokens_file=str(tokens)), is_local=True)
    assert refused(access, request(authorization=said), "viewer") == 401


def test_a_token_that_is_taken_away_is_no_good_at_once(tokens: Path) -> None:
    access = Access(WebSettings(tokens_file=str(tokens)), is_local=False)
    access.admit(request(authorization=f"Bearer {VIEWER}"), "viewer")
    tokens.write_text(f"operator olaf {OPERATOR}\n")
    assert refused(access, request(authorization=f"Bearer {VIEWER}"), "viewer") == 401


@pytest.mark.parametrize("line", ["viewer vera short", "king karl " + "k" * 20, "viewer " + "v" * 20])
def test_a_bad_line_is_named_and_not_repeated(tokens: Path, line: str) -> None:
    tokens.write_text(f"\n{line}\n")
    with pytest.raises(HTTPException, match="line 2") as fault:
        read_tokens(tokens)
    assert line.split()[-1] not in fault.value.detail
    assert find([], "Bearer x") is None


def test_a_missing_tokens_file_lets_nobody_in(tmp_path: Path) -> None:
    access = Access(WebSettings(tokens_file=str(tmp_path / "none")), is_local=False)
    assert refused(access, request(authorization=f"Bearer {VIEWER}"), "viewer") == 500


def test_a_proxy_is_believed_from_its_own_address_only() -> None:
    web = WebSettings(proxy_header="X-User", proxies=["10.0.0.7"], proxy_role="operator", local_role="none")
    access = Access(web, is_local=False)
    assert access.admit(request(peer="10.0.0.7", x_user="paul"), "operator") == Visitor("paul", "operator")
    assert refused(access, request(peer="10.0.0.8", x_user="paul"), "viewer") == 403
    assert refused(access, request(peer="10.0.0.7"), "viewer") == 403


@pytest.mark.parametrize(
    ("headers", "fine"),
    [
        ({}, True),
        ({"sec_fetch_site": "same-origin"}, True),
        ({"sec_fetch_site": "none"}, True),
        ({"sec_fetch_site": "cross-site"}, False),
        ({"sec_fetch_site": "same-site"}, False),
        ({"origin": "http://here:9464"}, True),
        ({"origin": "http://evil"}, False),
        ({"origin": "null"}, False),
        ({"sec_fetch_site": "cross-site", "origin": "http://here:9464"}, False),
    ],
)
def test_what_a_foreign_page_makes_a_browser_send_changes_nothing(headers: dict[str, str], fine: bool) -> None:
    access = Access(WebSettings(), is_local=True)
    if fine:
        access.admit(request("POST", **headers), "operator")
    else:
        assert refused(access, request("POST", **headers), "operator") == 403
    access.admit(request("GET", **headers), "viewer")


def test_one_visitor_cannot_keep_the_others_out() -> None:
    access = Access(WebSettings(), is_local=True)
    answers = []
    for _ in range(int(BURST_REQUESTS) + 50):
        try:
            access.admit(request(peer="10.0.0.1"), "viewer")
        except HTTPException as fault:
            answers.append(fault.status_code)
    assert answers
    assert set(answers) == {429}
    access.admit(request(peer="10.0.0.2"), "viewer")


def test_values_that_nobody_should_read_are_hidden_at_any_depth() -> None:
    value: Any = {"a": {"Password": "x", "list": [{"token": {"deep": 1}}, 2]}, "token": None, "n": 1}
    hidden = hide(value, ["PassWord", "token"])
    assert hidden == {"a": {"Password": "***", "list": [{"token": "***"}, 2]}, "token": "***", "n": 1}
    assert value["a"]["Password"] == "x"
