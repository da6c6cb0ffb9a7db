"""The text of a pool's `handlers` becomes handlers, or a sentence that says why not."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rrqd.exc import ConfigError
from rrqd.handlers import load_handlers

MODULE = """
from rrqd.registry import Registry
from rrqd.runner_settings import PythonRunnerSettings

registry = Registry()
registry.register("hello", print)

def started(): ...

settings = PythonRunnerSettings(registry=registry, on_startup=started)

class holder:
    inner = registry

number = 3
"""


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder of modules that are forgotten afterwards."""
    path, modules = list(sys.path), set(sys.modules)
    (tmp_path / "tasks_here.py").write_text(MODULE)
    (tmp_path / "needy.py").write_text("import no_such_thing_at_all\n")
    (tmp_path / "broken.py").write_text("x = 1\nraise RuntimeError('no database')\n")
    (tmp_path / "typo.py").write_text("x = (\n")
    (tmp_path / "quits.py").write_text("raise SystemExit(3)\n")
    yield tmp_path
    sys.path[:] = path
    for name in set(sys.modules) - modules:
        del sys.modules[name]


@pytest.mark.parametrize("spec", ["tasks_here:registry", "tasks_here.registry", "tasks_here:holder.inner"])
def test_a_registry_is_found_by_either_form(folder: Path, spec: str) -> None:
    loaded = load_handlers(spec, folder)
    assert loaded.registry.get_registered_functions() == ["hello"]
    assert loaded.on_startup is None


def test_runner_settings_bring_their_hooks(folder: Path) -> None:
    loaded = load_handlers("tasks_here:settings", folder)
    assert loaded.on_startup is not None
    assert loaded.on_shutdown is None


def test_the_extra_folder_goes_before_all_others(folder: Path) -> None:
    load_handlers("tasks_here:registry", folder)
    assert sys.path[0] == str(folder)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("nowhere:registry", r'there is no module "nowhere" on the import path'),
        ("nowhere.deep:registry", r'there is no module "nowhere" on'),
        ("tasks_here.more:registry", r'there is no module "tasks_here\.more"|not a package'),
        ("needy:registry", r'"needy" was found, but it needs "no_such_thing_at_all", which is not installed \(.*needy'),
        ("broken:registry", r'importing "broken" failed: RuntimeError: no database \(.*broken\.py:2\)'),
        ("typo:registry", r'importing "typo" failed: SyntaxError: .*typo\.py'),
        ("quits:registry", r'importing "quits" ended the process \(exit code 3\)'),
        ("tasks_here:regstry", r'has no "regstry"; did you mean "registry"\?'),
        ("tasks_here:zzz", r'has no "zzz"; it has registry, settings'),
        ("tasks_here:number", r"is a builtins\.int, not a Registry or PythonRunnerSettings"),
        ("registry", r'must be "module:object"'),
    ],
)
def test_what_is_wrong_is_said_in_one_line(folder: Path, spec: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        load_handlers(spec, folder)
    assert "\n" not in str(caught.value)
