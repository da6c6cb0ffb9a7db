"""Which changes count: patterns, and what git leaves out."""

from __future__ import annotations

from pathlib import Path

from rrqd.standalone.sieve import Sieve


def sieve(root: Path, **options: object) -> Sieve:
    return Sieve(root, ["*.py", "conf/*.toml"], [".venv", "*.pyc", "build/*"], **options)  # type: ignore[arg-type]


def passed(sieve: Sieve, root: Path, *names: str) -> list[str]:
    return [name for name in names if sieve.lets_through(str(root / name))]


def test_patterns_mean_a_name_or_a_path(tmp_path: Path) -> None:
    names = ("a.py", "deep/er/b.py", "conf/c.toml", "d.toml", "e.txt", "a.pyc")

    assert passed(sieve(tmp_path), tmp_path, *names) == ["a.py", "deep/er/b.py", "conf/c.toml"]


def test_an_ignored_folder_hides_all_that_is_in_it(tmp_path: Path) -> None:
    names = (".venv/lib/a.py", "x/.venv/b.py", "build/c.py", "src/build.py")

    assert passed(sieve(tmp_path), tmp_path, *names) == ["src/build.py"]


def test_what_is_outside_does_not_count(tmp_path: Path) -> None:
    assert not sieve(tmp_path / "in").lets_through(str(tmp_path / "out.py"))


def test_what_git_ignores_is_left_out(tmp_path: Path) -> None:
    (tmp_path / ".git" / "info").mkdir(parents=True)
    (tmp_path / ".git" / "info" / "exclude").write_text("mine.py\n")
    (tmp_path / ".gitignore").write_text("gen_*.py\n/out/\n")
    inner = tmp_path / "pkg"
    inner.mkdir()
    (inner / ".gitignore").write_text("!gen_kept.py\nlocal.py\n")
    names = (
        "a.py",
        "mine.py",
        "gen_x.py",
        "out/b.py",
        "pkg/out/c.py",
        "pkg/gen_kept.py",
        "pkg/gen_y.py",
        "pkg/local.py",
    )

    assert passed(sieve(tmp_path), tmp_path, *names) == ["a.py", "pkg/out/c.py", "pkg/gen_kept.py"]
    assert passed(sieve(tmp_path, gitignore=False), tmp_path, *names) == list(names)
    assert passed(sieve(inner), tmp_path, *names) == ["pkg/out/c.py", "pkg/gen_kept.py"]
