"""Functions and classes by name: ``module:qualified.name`` in a job, found again where it runs.

Rule 1: what is written down can be found again: a lambda, or a function inside another one, is refused at once.
Rule 2: in a daemon only names under the pool's patterns are imported.
Rule 3: ``__main__`` means a script; its functions are found again only in a process that runs the same script.
"""

from __future__ import annotations

import fnmatch
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

#: What stands before the path in a job's ``function_name``.
PREFIX = "dotted:"
#: The same for a job class in reqless' manner, ``class:module.Class``.
CLASS = "class:"
MAIN = "__main__"
#: For ``script`` when there is no file: a console, a notebook, ``python -c``.
CONSOLE = "<console>"


class NameUnknown(ValueError):
    """A function or class that can't be named, or can't be found under its name."""


def path_of(thing: Any) -> str:
    """``module:qualified.name``. Raises NameUnknown for what would not be found again under it."""
    thing = inspect.unwrap(thing) if not isinstance(thing, type) and _is_wrapped_by_job(thing) else thing
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not module or not name:
        raise NameUnknown(f"{thing!r} has no name under which it could be found again")
    if "<lambda>" in name or "<locals>" in name:
        kind = "a lambda" if "<lambda>" in name else "defined inside another function"
        raise NameUnknown(f"{name} is {kind} and can't be found again by name; define it at the top of a module")
    return f"{module}:{name}"


def _is_wrapped_by_job(thing: Any) -> bool:
    return hasattr(thing, "delay") and hasattr(thing, "__wrapped__")


def split(path: str) -> tuple[str, str]:
    """Module and qualified name of ``module:name``, or of ``module.name`` (the last dot parts them)."""
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    if not module or not name:
        raise NameUnknown(f"{path!r} names no function; write package.module.function")
    return module, name


def find(path: str) -> Any:
    """Import and follow the names. Raises NameUnknown saying what is missing."""
    module_name, name = split(path)
    try:
        found: Any = _module(module_name)
    except NameUnknown:
        parent, dot, kind = module_name.rpartition(".")
        if ":" in path or not dot:
            raise
        found = getattr(_module(parent), kind, None)  # package.module.Class.method
        if not isinstance(found, type):
            raise
    for part in name.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise NameUnknown(f"the module {module_name} has no {name}") from None
    return found


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as fault:
        raise NameUnknown(f"there is no module {fault.name or name} on this process's import path") from fault
    except Exception as fault:
        raise NameUnknown(f"importing {name} failed: {type(fault).__name__}: {fault}") from fault


def script() -> str:
    """Which script this process runs: its real path, or ``CONSOLE``."""
    file = getattr(sys.modules.get(MAIN), "__file__", None)
    return os.path.realpath(file) if file else CONSOLE


def allow_all(_path: str) -> None:
    """For a process of the user's own: what it imports is its own affair."""


@functools.lru_cache(maxsize=64)
def allow_only(patterns: Sequence[str]) -> Callable[[str], None]:
    """Only paths under one of the patterns (``myapp.jobs.*``, ``myapp.*``, ``myapp.jobs.add``)."""

    def check(path: str) -> None:
        module, name = split(path)
        if module == MAIN:
            raise NameUnknown(
                f"{name} is part of a script ({MAIN}), which only a worker started by that script can run; "
                "move it to a module, or run Worker(…) in the script"
            )
        dotted = f"{module}.{name}"
        if not any(fnmatch.fnmatchcase(dotted, pattern) for pattern in patterns):
            raise NameUnknown(f'{dotted} is not under handlers = "{PREFIX}{",".join(patterns)}" of this pool')

    return check
