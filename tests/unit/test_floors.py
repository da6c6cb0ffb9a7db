"""Imports only point down the floors of docs/architecture.md, and each library stays in its room."""

from __future__ import annotations

import ast
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

#: The rooms of each floor, lowest first. A name stands for the module, or for the package with all that is in it.
FLOORS = (
    {
        "__init__", "boot", "clock", "config", "deadlines", "dsn", "events", "exc", "flame", "flight", "flight_records",
        "handlers", "job", "lazily", "local_socket", "logs", "middleware", "model", "naming", "raising", "redact",
        "registry", "reminder", "runner", "runner_settings", "stacks", "tether", "tracing",
    },
    {"store"},
    {"client", "asking"},
    {"runtime", "bridge", "upkeep"},
    {"supervisor", "steward", "standalone", "web"},
    {"app", "cli", "classic", "rq", "reqless", "integrations", "testing", "__main__"},
)  # fmt: skip
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
#: Floors whose rooms are strangers to each other. (The supervisor's doorstep knows its neighbours by name only.)
STRANGERS = (3, 4)

#: A library -> the only rooms that may import it.
LIBRARIES = {
    "redis": set(),
    "hiredis": {"store"},
    "starlette": {"web", "integrations"},
    "uvicorn": {"web"},
    "prometheus_client": {"web"},
    "click": {"cli"},
    "rich": {"cli"},
    "pydantic": {"config", "classic"},
    "opentelemetry": {"integrations"},
    "sentry_sdk": {"integrations"},
    "django": {"integrations"},
    "django_tasks": {"integrations"},
    "asgiref": {"integrations"},
    "fastapi": {"integrations"},
    "flask": {"integrations"},
}
#: Floor 0 knows no asyncio. The one exception, inside a function: whoever asks for tasks has loaded it already.
TASKS = "rrqd.stacks"


@dataclass(frozen=True)
class Import:
    """One imported module, and where that happens."""

    importer: str
    imported: str
    line: int
    at_module_level: bool

    @property
    def room(self) -> str:
        return room_of(self.importer)

    @property
    def library(self) -> str:
        return self.imported.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def room_of(module: str) -> str:
    """``rrqd.store.jobs`` stands in ``store``."""
    return [*module.split("."), "__init__"][1]


MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "rrqd").rglob("*.py"))
}


class Imports(ast.NodeVisitor):
    """All imports of a module that are ever carried out, those inside functions too."""

    def __init__(self, module: str) -> None:
        self.module = module
        self.depth = 0
        self.found: list[Import] = []
        self.visit(ast.parse(MODULES[module].read_text("utf-8")))

    def visit_Import(self, node: ast.Import) -> None:
        for name in node.names:
            self._note(name.name, node)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0, f"{self.module}:{node.lineno} is a relative import; write the whole name"
        origin = node.module or ""
        for name in node.names:
            deeper = f"{origin}.{name.name}"
            self._note(deeper if deeper in MODULES else origin, node)

    def visit_If(self, node: ast.If) -> None:
        if ast.unparse(node.test) != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        self.depth += 1
        self.generic_visit(node)
        self.depth -= 1

    visit_AsyncFunctionDef = visit_FunctionDef

    def _note(self, imported: str, node: ast.stmt) -> None:
        self.found.append(Import(self.module, imported, node.lineno, self.depth == 0))


@cache
def imports() -> list[Import]:
    """Read by the first test that asks: every process of a test run imports this file."""
    return [one for module in MODULES for one in Imports(module).found]


def ours() -> list[Import]:
    return [one for one in imports() if one.library == "rrqd"]


def test_every_module_stands_on_a_floor() -> None:
    assert {room_of(module) for module in MODULES} <= FLOOR_OF.keys()


def test_imports_point_down() -> None:
    up = [str(one) for one in ours() if FLOOR_OF[room_of(one.imported)] > FLOOR_OF[one.room]]

    assert up == []


def test_rooms_of_one_floor_do_not_know_each_other() -> None:
    sideways = [
        str(one)
        for one in ours()
        if FLOOR_OF[one.room] in STRANGERS
        and FLOOR_OF[room_of(one.imported)] == FLOOR_OF[one.room]
        and room_of(one.imported) != one.room
    ]

    assert sideways == []


@pytest.mark.parametrize("library", LIBRARIES)
def test_each_library_stays_in_its_room(library: str) -> None:
    strays = [str(one) for one in imports() if one.library == library and one.room not in LIBRARIES[library]]

    assert strays == []


def test_the_lowest_floor_knows_no_asyncio() -> None:
    loops = [one for one in imports() if one.library in ("asyncio", "uvloop") and FLOOR_OF[one.room] == 0]

    assert [(one.importer, one.at_module_level) for one in loops] == [(TASKS, False)]


def test_no_two_modules_import_each_other_while_they_load() -> None:
    loading: dict[str, set[str]] = {module: set() for module in MODULES}
    for one in ours():
        if one.at_module_level:
            loading[one.importer].add(one.imported)
    done: set[str] = set()
    while free := [module for module, needs in loading.items() if module not in done and needs <= done | {module}]:
        done.update(free)

    assert sorted(loading.keys() - done) == []


def loaded_by(statement: str, *names: str) -> set[str]:
    """Which of the modules a fresh interpreter has loaded after the statement."""
    program = f"import sys\n{statement}\nprint(*(name for name in {names!r} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_a_producer_loads_nothing_of_the_daemon() -> None:
    daemon = (
        "rrqd.supervisor", "rrqd.runtime", "rrqd.upkeep", "rrqd.steward", "rrqd.web", "rrqd.cli", "rrqd.config",
        "starlette", "uvicorn", "click", "structlog", "pydantic", "prometheus_client", "uvloop", "psutil", "rich",
    )  # fmt: skip

    assert loaded_by("import rrqd.client", *daemon) == set()
    assert loaded_by("from rrqd import RRQClient; RRQClient(config={'redis_dsn': 'redis://h'})", *daemon) == set()


def test_a_producer_of_job_classes_loads_nothing_that_runs_them() -> None:
    engine = ("structlog", "pydantic", "uvloop", "click", "starlette", "rrqd.standalone", "rrqd.runtime.worker")

    assert loaded_by("from rrqd import reqless; reqless.Client('redis://h')", *engine) == set()


def test_the_master_loads_no_loop_no_store_and_no_web() -> None:
    others = ("asyncio", "redis", "hiredis", "rrqd.store", "rrqd.runtime", "rrqd.web", "starlette", "structlog")

    assert loaded_by("import rrqd.supervisor.master", *others) == set()


def test_a_handlers_module_loads_nothing_but_the_vocabulary() -> None:
    others = ("asyncio", "redis", "hiredis", "rrqd.store", "rrqd.client", "rrqd.runtime", "pydantic", "structlog")

    assert loaded_by("from rrqd import ExecutionRequest, PythonRunnerSettings, Registry, RetryJob", *others) == set()
