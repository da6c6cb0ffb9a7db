"""The embedded server's file, flushed to the disk from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rrqd.upkeep.flushing import Flushing


@pytest.fixture
def flushed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that were flushed, in their order."""
    names: list[str] = []
    monkeypatch.setattr(os, "fsync", lambda fd: names.append(Path(os.readlink(f"/proc/self/fd/{fd}")).name))
    return names


def test_what_has_grown_is_flushed_and_nothing_else(tmp_path: Path, flushed: list[str]) -> None:
    flushing, files = Flushing(tmp_path), tmp_path / "appendonlydir"
    flushing.flush()  # no server has been here yet
    files.mkdir()
    for name in ("appendonly.aof.1.base.rdb", "appendonly.aof.1.incr.aof", "appendonly.aof.manifest"):
        (files / name).write_text("some")

    flushing.flush()
    flushing.flush()
    assert flushed == ["appendonly.aof.1.incr.aof"]

    (files / "appendonly.aof.1.incr.aof").write_text("some more")
    flushing.flush()
    (files / "appendonly.aof.1.incr.aof").unlink()  # rewritten
    (files / "appendonly.aof.2.incr.aof").write_text("new")
    flushing.flush()
    assert flushed[1:] == ["appendonly.aof.1.incr.aof", "appendonly.aof.2.incr.aof"]


def test_a_disk_that_does_not_take_it_is_asked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "appendonlydir").mkdir()
    (tmp_path / "appendonlydir" / "appendonly.aof.1.incr.aof").write_text("some")
    asked: list[int] = []

    def refuse(fd: int) -> None:
        asked.append(fd)
        raise OSError("no")

    monkeypatch.setattr(os, "fsync", refuse)
    flushing = Flushing(tmp_path)
    for _ in range(2):
        with pytest.raises(OSError, match="no"):
            flushing.flush()
    assert len(asked) == 2
