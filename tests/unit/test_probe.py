"""What a health check says of a daemon that answers, one that does not, and one that is not to be asked."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rrqd.web import probe


@contextmanager
def daemon(answer: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Somebody who says this to the first who asks."""
    asked: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                asked.append(connection.recv(4096))
                connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1], asked
        thread.join(5)


@pytest.fixture
def at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that the health check reads."""
    path = tmp_path / "rrq.toml"
    monkeypatch.setenv("RRQ_CONFIG", str(path))
    return path


def _answer(status: str, body: str) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


def test_yes_is_0_and_says_nothing(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with daemon(_answer("200 OK", "{}")) as (port, asked):
        at.write_text(f'[rrqd]\nhttp = "0.0.0.0:{port}"\n')
        assert probe.main([]) == 0
    assert asked[0].startswith(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1:")
    assert capsys.readouterr().out == ""


def test_no_is_1_and_says_why(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    body = '{"ok": false, "problems": [{"what": "stopping", "why": "it was told to stop"}]}'
    with daemon(_answer("503 No", body)) as (port, asked):
        at.write_text(f'[rrqd]\nhttp = "127.0.0.1:{port}"\n')
        assert probe.main(["readyz"]) == 1
    assert asked[0].startswith(b"GET /readyz ")
    assert capsys.readouterr().out == "stopping: it was told to stop\n"


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-nobody\r\n", _answer("500 No", "<html>")])
def test_whoever_else_answers_there_is_no_daemon(at: Path, answer: bytes) -> None:
    with daemon(answer) as (port, _):
        at.write_text(f'[rrqd]\nhttp = "127.0.0.1:{port}"\n')
        assert probe.main([]) == 1


def test_nobody_there_is_1(at: Path, capsys: pytest.CaptureFixture[str]) -> None:
    at.write_text('[rrqd]\nhttp = "127.0.0.1:1"\n')
    assert probe.main([]) == 1
    assert "no answer from 127.0.0.1:1" in capsys.readouterr().out


def test_without_http_there_is_nobody_to_ask(at: Path) -> None:
    at.write_text('[rrqd]\nhttp = "off"\n')
    assert probe.main([]) == 0


def test_a_file_that_can_not_be_read_is_78_and_a_wrong_question_2(at: Path) -> None:
    assert probe.main([]) == 78
    assert probe.main(["healthy"]) == 2
