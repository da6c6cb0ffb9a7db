"""From the text of a pool's `handlers` key to the handlers themselves.

The text is `package.module:object` or RRQ's dotted `package.module.object`; the object is a `Registry` or a
`PythonRunnerSettings`. Importing runs the application's code: the mold does it in every generation, and
`rrqd config check` does it in a process that may be thrown away. What goes wrong is a `ConfigError` that says
what was looked for, where, and why it was not found. The functions of the key `warmup` are found the same way.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FunctionType, ModuleType
from typing import TYPE_CHECKING, Any

from rrqd.exc import ConfigError
from rrqd.middleware import Middleware
from rrqd.registry import Registry
from rrqd.runner_settings import Hook, PythonRunnerSettings

#: ``handlers = "dotted:myapp.*"``: functions by their dotted names, as far as the patterns allow.
DOTTED = "dotted:"

if TYPE_CHECKING:
    from rrqd.config.pool_table import PoolSettings
    from rrqd.config.settings import Settings


@dataclass(frozen=True, slots=True)
class WorkerDoor:
    """What handlers that are more than functions know of their worker, and may ask of it.

    ``is_alone``: without a daemon around it. ``give_up(why)``: they are gone; end as after a crash. ``quieten(flag)``:
    claim no jobs for now, or claim again.
    """

    settings: Settings
    pool_name: str
    pool: PoolSettings
    slot: int
    is_alone: bool
    give_up: Callable[[str], None]
    quieten: Callable[[bool], None]


@dataclass(frozen=True, slots=True)
class LoadedHandlers:
    """The handlers of a pool, and what to call in each worker before the first job and after the last one.
    ``middlewares``: the pool's own, around every run.

    ``prepare``: makes the real ones, in the worker, after the fork. ``abandon``: called when the worker ends, however.
    """

    registry: Registry
    on_startup: Hook | None = None
    on_shutdown: Hook | None = None
    on_bind: Callable[[str, str], None] | None = None
    """Told by a worker, before ``on_startup``, where its jobs lie: the server's DSN and the namespace."""
    prepare: Callable[[WorkerDoor], LoadedHandlers] | None = None
    abandon: Callable[[], None] | None = None
    middlewares: tuple[Middleware, ...] = ()

    def behind(self, door: WorkerDoor) -> LoadedHandlers:
        """In a worker, after the fork: what it runs."""
        return self if self.prepare is None else replace(self.prepare(door), middlewares=self.middlewares)


def load_handlers(spec: str, extra_path: Path | None = None) -> LoadedHandlers:
    """Import what `spec` names.

    `extra_path` is a folder that becomes importable, before all others, and stays so (the configuration file's).
    Raises `ConfigError`, of one or two lines, when a module is missing or fails while it is imported, when the
    object is not there, or is neither a Registry nor a PythonRunnerSettings.
    """
    if extra_path is not None:
        make_importable(extra_path)
    if spec.startswith(DOTTED):  # a face's affair; this floor knows it by name only
        loaded: LoadedHandlers = importlib.import_module("rrqd.rq.running").load(spec.removeprefix(DOTTED))
        return loaded
    module_name, object_path = _split(spec)
    if not module_name or not object_path:
        raise ConfigError(f'handlers = "{spec}": must be "module:object", for example "myapp.jobs:registry"')
    wanted_by = f'handlers = "{spec}"'
    module = import_module(module_name, wanted_by)
    return _as_handlers(_find(module, object_path, wanted_by, Registry | PythonRunnerSettings), spec)


def load_middlewares(specs: Sequence[str]) -> tuple[Middleware, ...]:
    """Import what a pool's ``middleware`` names. Raises `ConfigError`, of one line, when it is not there, or can't be
    called with a request."""
    found = []
    for spec in specs:
        one = find_object(spec, f'middleware = "{spec}"', FunctionType)
        if not callable(one):
            raise ConfigError(f'middleware = "{spec}": is a {type(one).__qualname__}, nothing that can be called')
        found.append(one)
    return tuple(found)


def warm_up(spec: str) -> None:
    """Import what `spec` names, a function without arguments, and call it.

    Raises `ConfigError`, of one line, when it is not there, is no plain function, or raises.
    """
    wanted_by = f'warmup = "{spec}"'
    module_name, object_path = _split(spec)
    function = _find(import_module(module_name, wanted_by), object_path, wanted_by, FunctionType)
    if not callable(function):
        raise ConfigError(f"{wanted_by}: is a {type(function).__qualname__}, not a function")
    if inspect.iscoroutinefunction(function):
        raise ConfigError(f"{wanted_by}: is async, and before the fork there is no event loop; call it in on_startup")
    try:
        function()
    except (Exception, SystemExit) as error:
        text = str(error).strip().partition("\n")[0]
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ConfigError(f"{wanted_by}: {object_path} raised {what}{_place(error)}") from error


def find_object(spec: str, wanted_by: str, wanted: Any) -> Any:
    """Import the module of `spec` and follow the rest of it; `wanted` is the type to suggest where it is not there."""
    module_name, object_path = _split(spec)
    if not module_name or not object_path:
        raise ConfigError(f'{wanted_by}: must be "module:object" or "module.object"')
    return _find(import_module(module_name, wanted_by), object_path, wanted_by, wanted)


def _split(spec: str) -> tuple[str, str]:
    """Module and object of ``module:object`` or ``module.object``."""
    module_name, separator, object_path = spec.partition(":")
    if not separator:
        module_name, _, object_path = spec.rpartition(".")
    return module_name, object_path


def make_importable(folder: Path) -> None:
    """Put `folder` first on `sys.path`, once."""
    text = str(folder.absolute())
    if text in sys.path:
        sys.path.remove(text)
    sys.path.insert(0, text)
    importlib.invalidate_caches()


def import_module(name: str, wanted_by: str) -> ModuleType:
    """Import `name`; `wanted_by` opens the sentence of the `ConfigError` when that fails."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or name
        if missing == name or name.startswith(f"{missing}."):
            detail = f'there is no module "{missing}" on the import path, which begins with {_import_path()}'
        else:
            detail = f'the module "{name}" was found, but it needs "{missing}", which is not installed{_place(error)}'
        raise ConfigError(f"{wanted_by}: {detail}") from error
    except SystemExit as error:
        raise ConfigError(f'{wanted_by}: importing "{name}" ended the process (exit code {error.code})') from error
    except Exception as error:
        text = str(error).strip().partition("\n")[0]
        what = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise ConfigError(f'{wanted_by}: importing "{name}" failed: {what}{_place(error)}') from error


def _import_path() -> str:
    first = [entry or os.getcwd() for entry in sys.path[:2]]
    return ", ".join(first) or "nothing"


def _place(error: BaseException) -> str:
    """Where in the application's files it happened: the innermost line that is not the import machinery's."""
    if isinstance(error, SyntaxError) and error.filename:
        return f" ({error.filename}:{error.lineno})"
    frames = traceback.extract_tb(error.__traceback__)
    ours = (os.path.abspath(__file__), importlib.__file__)
    for frame in reversed(frames):
        if not frame.filename.startswith("<frozen") and frame.filename not in ours:
            return f" ({frame.filename}:{frame.lineno})"
    return ""


def _find(module: ModuleType, object_path: str, wanted_by: str, wanted: Any) -> Any:
    """Follow the dotted object path inside the module, to something of the type `wanted`."""
    found: Any = module
    for name in object_path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError as error:
            hint = _nearest(found, name, wanted)
            where = f'the module "{module.__name__}" ({module.__file__ or "a namespace package"})'
            raise ConfigError(f'{wanted_by}: {where} has no "{name}"{hint}') from error
    return found


def _nearest(found: Any, name: str, wanted: Any) -> str:
    """A name that is nearly the same, or else the names that would do."""
    near = difflib.get_close_matches(name, [one for one in dir(found) if not one.startswith("__")], 1)
    if near:
        return f'; did you mean "{near[0]}"?'
    fitting = [one for one, value in vars(found).items() if isinstance(value, wanted)]
    kind = "function" if wanted is FunctionType else "Registry"
    return f"; it has {', '.join(sorted(fitting))}" if fitting else f"; it has no {kind} at all"


def _as_handlers(found: Any, spec: str) -> LoadedHandlers:
    if isinstance(found, LoadedHandlers):
        return found
    if isinstance(found, Registry):
        return LoadedHandlers(found)
    if isinstance(found, PythonRunnerSettings):
        return LoadedHandlers(found.registry, found.on_startup, found.on_shutdown)
    made = getattr(found, "as_handlers", None)  # settings of RRQ's first API
    if callable(made) and not isinstance(found, type):
        handlers = made()
        if isinstance(handlers, LoadedHandlers):
            return handlers
    kind = type(found)
    message = f'handlers = "{spec}": is a {kind.__module__}.{kind.__qualname__}, not a Registry or PythonRunnerSettings'
    if isinstance(found, ModuleType):
        message = f'handlers = "{spec}": is a module; name the Registry inside it: "{found.__name__}:registry"'
    elif kind.__module__.partition(".")[0] == "rrq":
        message += f"; import {kind.__name__} from rrqd instead of rrq"
    raise ConfigError(message)
