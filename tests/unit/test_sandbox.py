"""A run's directory is clean before, gone after, and what lies outside is never touched."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.runtime.sandbox import Indoors, Sandboxes, sweep

NOBODY = 65534


@pytest.fixture
def root() -> Iterator[Path]:
    """A state directory of a user who may not do everything: as root no directory is ever closed."""
    folder = Path(tempfile.mkdtemp(prefix="rrqd-test-sandbox-"))
    us = os.geteuid()
    if us == 0:
        os.chown(folder, NOBODY, NOBODY)
        os.seteuid(NOBODY)
    yield folder / "sandboxes"
    os.seteuid(us)
    shutil.rmtree(folder)


@pytest.fixture
def sandboxes(root: Path) -> Sandboxes:
    return Sandboxes(root, "worker-1")


def everything_below(path: Path) -> list[str]:
    """Whatever is left under a folder, apart from the folders that hold it."""
    return sorted(str(one.relative_to(path)) for one in path.rglob("*") if not one.is_dir() or one.is_symlink())


def test_a_run_gets_an_empty_directory_that_only_this_user_sees(sandboxes: Sandboxes) -> None:
    path = sandboxes.make(7)

    assert list(path.iterdir()) == []
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert path.parent.name == "worker-1"


def test_two_runs_never_share_a_directory(sandboxes: Sandboxes, root: Path) -> None:
    paths = {sandboxes.make(7), sandboxes.make(8), Sandboxes(root, "worker-2").make(7)}

    assert len(paths) == 3


def test_a_directory_that_is_there_already_is_not_handed_out(sandboxes: Sandboxes) -> None:
    (sandboxes.make(7) / "left behind").touch()

    with pytest.raises(FileExistsError):
        sandboxes.make(7)


def test_nothing_is_left_of_a_run(sandboxes: Sandboxes, root: Path) -> None:
    path = sandboxes.make(7)
    (path / "deep" / "deeper").mkdir(parents=True)
    (path / "deep" / "deeper" / "file").write_text("x")
    (path / ".hidden").touch()
    os.mkfifo(path / "pipe")

    sandboxes.remove(path)

    assert not path.exists()
    assert everything_below(root) == []


def test_a_neighbours_directory_stays(sandboxes: Sandboxes) -> None:
    path, neighbour = sandboxes.make(7), sandboxes.make(8)
    (neighbour / "file").touch()

    sandboxes.remove(path)

    assert everything_below(neighbour) == ["file"]


@pytest.fixture
def precious(root: Path) -> Path:
    """A folder outside all sandboxes."""
    folder = root.parent / "precious"
    folder.mkdir(mode=0o755)
    folder.chmod(0o755)
    (folder / "file").write_text("mine")
    return folder


def untouched(folder: Path) -> bool:
    return (folder / "file").read_text() == "mine" and stat.S_IMODE(folder.stat().st_mode) == 0o755


def test_links_are_removed_and_not_followed(sandboxes: Sandboxes, root: Path, precious: Path) -> None:
    path = sandboxes.make(7)
    (path / "to a folder").symlink_to(precious)
    (path / "to a file").symlink_to(precious / "file")
    (path / "to nothing").symlink_to(path / "nothing")

    sandboxes.remove(path)

    assert everything_below(root) == []
    assert untouched(precious)


def test_links_in_a_closed_directory_are_not_followed_either(sandboxes: Sandboxes, root: Path, precious: Path) -> None:
    path = sandboxes.make(7)
    closed = path / "closed"
    closed.mkdir()
    (closed / "link").symlink_to(precious)
    closed.chmod(0o500)

    sandboxes.remove(path)

    assert everything_below(root) == []
    assert untouched(precious)


def test_a_run_that_put_a_link_in_its_directorys_place_harms_nobody(
    sandboxes: Sandboxes, root: Path, precious: Path
) -> None:
    path = sandboxes.make(7)
    path.rmdir()
    path.symlink_to(precious)

    sandboxes.remove(path)

    assert everything_below(root) == []
    assert untouched(precious)


def test_a_run_that_put_a_link_in_the_trash_folders_place_harms_nobody(
    sandboxes: Sandboxes, root: Path, precious: Path
) -> None:
    path = sandboxes.make(7)
    (path / "file").touch()
    (path.parent / "trash").symlink_to(precious)

    sandboxes.remove(path)

    assert everything_below(root) == []
    assert [one.name for one in precious.iterdir()] == ["file"]
    assert untouched(precious)


def test_a_run_that_put_a_file_in_the_trash_folders_place_leaves_nothing_else(sandboxes: Sandboxes, root: Path) -> None:
    path = sandboxes.make(7)
    (path / "file").touch()
    (path.parent / "trash").touch()

    sandboxes.remove(path)

    assert everything_below(root) == ["worker-1/trash"]


def test_all_folders_are_for_this_user_only_whatever_the_umask(sandboxes: Sandboxes, root: Path) -> None:
    before = os.umask(0)
    path = sandboxes.make(7)
    os.umask(before)

    assert [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent, root)] == [0o700] * 3


def test_a_run_that_put_a_file_in_its_directorys_place_leaves_none(sandboxes: Sandboxes, root: Path) -> None:
    path = sandboxes.make(7)
    path.rmdir()
    path.write_text("x")

    sandboxes.remove(path)

    assert everything_below(root) == []


@pytest.mark.parametrize("mode", [0o000, 0o500, 0o400])
def test_directories_that_the_job_has_closed_are_removed_with_what_is_in_them(
    sandboxes: Sandboxes, root: Path, mode: int
) -> None:
    path = sandboxes.make(7)
    inner = path / "outer" / "inner"
    inner.mkdir(parents=True)
    (inner / "file").touch()
    for folder in (inner, inner.parent, path):
        folder.chmod(mode)

    sandboxes.remove(path)

    assert everything_below(root) == []
    assert not (root / "worker-1" / "trash" / "7").exists()


def test_a_run_that_removed_its_own_directory_is_no_error(sandboxes: Sandboxes) -> None:
    own, all_of_it = sandboxes.make(7), sandboxes.make(8)

    own.rmdir()
    sandboxes.remove(own)
    shutil.rmtree(all_of_it.parent)
    sandboxes.remove(all_of_it)

    assert not own.exists()


def test_a_worker_that_leaves_takes_its_folder_along(sandboxes: Sandboxes, root: Path) -> None:
    (sandboxes.make(7) / "file").touch()
    Sandboxes(root, "worker-2").make(1)

    sandboxes.close()
    sandboxes.close()

    assert [folder.name for folder in root.iterdir()] == ["worker-2"]


def test_leftovers_of_dead_workers_are_swept_away(root: Path, precious: Path) -> None:
    for worker in ("dead", "alive", "dead too"):
        (Sandboxes(root, worker).make(1) / "file").touch()
    (root / "link").symlink_to(precious)
    (root / "a file").touch()

    assert sweep(root, lambda: ["alive"]) == 2

    assert sorted(one.name for one in root.iterdir()) == ["a file", "alive", "link"]
    assert untouched(precious)


def test_a_worker_that_is_born_during_the_sweep_keeps_its_folder(root: Path) -> None:
    Sandboxes(root, "dead").make(1)

    def asked_late() -> list[str]:
        Sandboxes(root, "just born").make(1)
        return []

    assert sweep(root, asked_late) == 1

    assert [one.name for one in root.iterdir()] == ["just born"]


def test_a_state_directory_without_sandboxes_needs_no_sweeping(root: Path) -> None:
    assert sweep(root, list) == 0


def test_indoors_the_process_is_in_the_runs_directory_and_then_back(sandboxes: Sandboxes, root: Path) -> None:
    before = os.getcwd()
    asked_before = tempfile.gettempdir(), os.environ.get("TMPDIR")
    path = sandboxes.make(7)
    indoors = Indoors()

    indoors.enter(path)
    inside = os.getcwd(), os.environ["TMPDIR"], tempfile.gettempdir()
    path.rmdir()  # a job may do that
    indoors.leave()
    indoors.leave()

    assert inside == (str(path),) * 3
    assert os.getcwd() == before
    assert (tempfile.gettempdir(), os.environ.get("TMPDIR")) == asked_before
