"""Values of a task by its type hints: plain JSON on the way, checked at both ends.

msgspec knows dataclasses, Structs, TypedDicts, dates, UUIDs and the like; pydantic's models check themselves. A
parameter without a hint is JSON as it is.
"""

from __future__ import annotations

import inspect
from typing import Any, get_type_hints

import msgspec


class Signature:
    """The parameters of a function that a job carries. ``injected`` are left out: they are the worker's."""

    def __init__(self, function: Any, injected: set[str]) -> None:
        self.name = getattr(function, "__qualname__", repr(function))
        hints = _hints(function)
        whole = inspect.signature(function)
        for parameter in whole.parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                raise TypeError(f"{self.name}: a task's parameters have names; {parameter} has none")
        self._own = whole.replace(parameters=[one for name, one in whole.parameters.items() if name not in injected])
        self._types = {name: hints.get(name, Any) for name in self._own.parameters}
        self._answer = hints.get("return", Any)

    def write(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Parameters for a job. Raises TypeError for arguments that don't fit the function."""
        bound = self._own.bind(*args, **kwargs)
        params = {name: _plain(value, f"{self.name}: {name}") for name, value in bound.arguments.items()}
        self.read(params)
        return params

    def read(self, params: dict[str, Any]) -> dict[str, Any]:
        """Arguments from a job's parameters. Raises TypeError, naming the one that does not fit."""
        unknown = params.keys() - self._types.keys()
        if unknown:
            raise TypeError(f"{self.name} has no parameter {', '.join(sorted(unknown))}")
        missing = [
            name for name, one in self._own.parameters.items() if one.default is one.empty and name not in params
        ]
        if missing:
            raise TypeError(f"{self.name} needs {', '.join(missing)}")
        return {name: _typed(value, self._types[name], f"{self.name}: {name}") for name, value in params.items()}

    def read_answer(self, value: Any) -> Any:
        """A result as the function's return type has it. Raises TypeError."""
        return _typed(value, self._answer, f"the result of {self.name}")


def _hints(function: Any) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except NameError as fault:
        raise TypeError(f"{function.__qualname__}: a type hint can't be read: {fault}") from None


def _plain(value: Any, where: str) -> Any:
    try:
        return msgspec.to_builtins(value, enc_hook=_dump)
    except (TypeError, ValueError, RecursionError) as fault:
        raise TypeError(f"{where}: {fault}") from None


def _dump(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"{type(value).__qualname__} can't be written as JSON")


def _typed(value: Any, kind: Any, where: str) -> Any:
    if kind is Any:
        return value
    try:
        return msgspec.convert(value, None if kind is type(None) else kind, dec_hook=_validate)
    except (msgspec.ValidationError, ValueError) as fault:
        raise TypeError(f"{where}: {fault}") from None
    except TypeError:
        return value  # a hint of a kind that nobody can check here (a Protocol, a callable)


def _validate(kind: type, value: Any) -> Any:
    if hasattr(kind, "model_validate"):
        return kind.model_validate(value)
    raise TypeError(f"{kind} can't be checked")
