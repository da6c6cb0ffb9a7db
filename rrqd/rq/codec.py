"""Values to JSON and back, as they were: dates, UUIDs, decimals, bytes, sets, tuples, dataclasses, models.

What JSON has is written as it is. Anything else becomes ``{"$": kind, "v": …}``, so other languages and the pages can
read it, and nothing is run when it is read back.

Rule 1: a class is only built again if it is plain data: a dataclass, a named tuple, an Enum, a pydantic model, a
        msgspec Struct. No other name in a stored job is ever called.
Rule 2: what can't come back as it was is refused when it is written, with the place where it stands.
"""

from __future__ import annotations

import base64
import dataclasses
import math
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID

import msgspec

from rrqd.rq.reference import NameUnknown, find, path_of

MARK = "$"
MOST_LEVELS = 100
_JSON_INT = 2**63

#: Whether a class may be imported and built; raises NameUnknown with the reason if not.
Allow = Callable[[str], None]


class CodecError(TypeError):
    """A value that can't be written, or can't be read back here."""


def encode(value: Any, what: str = "the value") -> Any:
    """JSON-able data for ``value``. Raises CodecError, naming the place in it that can't be written."""
    return _plain(value, what, 0)


def decode(data: Any, allow: Allow) -> Any:
    """The value again. Raises CodecError when a class of it can't be had here."""
    if isinstance(data, list):
        return [decode(item, allow) for item in data]
    if not isinstance(data, dict):
        return data
    kind = data.get(MARK)
    if kind is None:
        return {key: decode(item, allow) for key, item in data.items()}
    build = _BUILDERS.get(kind) if isinstance(kind, str) else None
    try:
        if build is not None:
            return build(data["v"])
        return _build(kind, data, allow)
    except (KeyError, ValueError, TypeError, ArithmeticError, NameUnknown) as fault:
        raise CodecError(f"a stored {kind} can't be read back: {fault}") from fault


def _plain(value: Any, where: str, level: int) -> Any:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return value
    if kind is int:
        return value if -_JSON_INT <= value < _JSON_INT else _marked("int", str(value))
    if kind is float:
        return value if math.isfinite(value) else _marked("float", repr(value))
    if level > MOST_LEVELS:
        raise CodecError(f"{where} is nested deeper than {MOST_LEVELS} levels (or contains itself)")
    if kind is list:
        return _items(value, where, level)
    if kind is dict:
        return _mapping(value, where, level)
    writer = _WRITERS.get(kind)
    if writer is not None:
        return writer(value, where, level)
    return _object(value, where, level)


def _marked(kind: str, value: Any, **more: Any) -> dict[str, Any]:
    return {MARK: kind, "v": value, **more}


def _items(values: Any, where: str, level: int) -> list[Any]:
    return [_plain(item, f"{where}[{at}]", level + 1) for at, item in enumerate(values)]


def _mapping(value: dict[Any, Any], where: str, level: int) -> dict[str, Any]:
    if MARK not in value and all(type(key) is str for key in value):
        return {key: _plain(item, f"{where}[{key!r}]", level + 1) for key, item in value.items()}
    pairs = [
        [_plain(key, f"a key of {where}", level + 1), _plain(item, f"{where}[{key!r}]", level + 1)]
        for key, item in value.items()
    ]
    return _marked("dict", pairs)


def _object(value: Any, where: str, level: int) -> dict[str, Any]:
    """An instance of a class that is plain data."""
    kind = type(value)
    try:
        path = path_of(kind)
    except NameUnknown as fault:
        raise CodecError(f"{where} is a {kind.__qualname__}, which can't be stored: {fault}") from None
    if isinstance(value, Enum):
        return _marked("enum", value.name, t=path)
    if isinstance(value, PurePath):
        return _marked("path", str(value))
    fields: Any
    if _is_named_tuple(kind):
        return _marked("namedtuple", _items(value, where, level), t=path)
    if dataclasses.is_dataclass(value):
        fields = {one.name: getattr(value, one.name) for one in dataclasses.fields(value) if one.init}
        return _marked("dataclass", _fields(fields, where, level), t=path)
    if isinstance(value, msgspec.Struct):
        fields = {name: getattr(value, name) for name in value.__struct_fields__}
        return _marked("struct", _fields(fields, where, level), t=path)
    if _is_model(kind):
        fields = {name: getattr(value, name) for name in kind.model_fields}
        return _marked("model", _fields(fields, where, level), t=path)
    raise CodecError(
        f"{where} is a {kind.__module__}.{kind.__qualname__}, which can't be stored as JSON; "
        'pass plain data or an id, or ask for serializer="pickle"'
    )


def _fields(fields: dict[str, Any], where: str, level: int) -> dict[str, Any]:
    return {name: _plain(item, f"{where}.{name}", level + 1) for name, item in fields.items()}


def _is_named_tuple(kind: type) -> bool:
    return issubclass(kind, tuple) and hasattr(kind, "_fields")


def _is_model(kind: type) -> bool:
    return hasattr(kind, "model_fields") and hasattr(kind, "model_validate")


def _build(kind: Any, data: dict[str, Any], allow: Allow) -> Any:
    if kind == "tuple":
        return tuple(decode(data["v"], allow))
    if kind == "set":
        return set(decode(data["v"], allow))
    if kind == "frozenset":
        return frozenset(decode(data["v"], allow))
    if kind == "dict":
        return {decode(key, allow): decode(item, allow) for key, item in data["v"]}
    if kind not in _CLASSES:
        raise ValueError("no such kind is known here")
    allow(data["t"])
    found = find(data["t"])
    if not (isinstance(found, type) and _CLASSES[kind](found)):
        raise ValueError(f"{data['t']} is no {kind}")
    if kind == "enum":
        return found[data["v"]]  # type: ignore[index]
    value = decode(data["v"], allow)
    if kind == "namedtuple":
        return found(*value)
    if kind == "model":  # by field name, whatever aliases there are; checked again
        return found.model_validate(value, by_name=True)  # type: ignore[attr-defined]
    return found(**value)


_CLASSES: dict[str, Callable[[type], bool]] = {
    "enum": lambda kind: issubclass(kind, Enum),
    "namedtuple": _is_named_tuple,
    "dataclass": dataclasses.is_dataclass,
    "struct": lambda kind: issubclass(kind, msgspec.Struct),
    "model": _is_model,
}

_WRITERS: dict[type, Callable[[Any, str, int], Any]] = {
    tuple: lambda value, where, level: _marked("tuple", _items(value, where, level)),
    set: lambda value, where, level: _marked("set", _items(value, where, level)),
    frozenset: lambda value, where, level: _marked("frozenset", _items(value, where, level)),
    bytes: lambda value, _where, _level: _marked("bytes", base64.b64encode(value).decode()),
    bytearray: lambda value, _where, _level: _marked("bytearray", base64.b64encode(value).decode()),
    datetime: lambda value, _where, _level: _marked("datetime", value.isoformat()),
    date: lambda value, _where, _level: _marked("date", value.isoformat()),
    time: lambda value, _where, _level: _marked("time", value.isoformat()),
    timedelta: lambda value, _where, _level: _marked(
        "timedelta", [value.days, value.seconds, value.microseconds]
    ),
    Decimal: lambda value, _where, _level: _marked("decimal", str(value)),
    UUID: lambda value, _where, _level: _marked("uuid", str(value)),
    complex: lambda value, _where, _level: _marked("complex", [repr(value.real), repr(value.imag)]),
}  # fmt: skip

_BUILDERS: dict[str, Callable[[Any], Any]] = {
    "int": int,
    "float": float,
    "complex": lambda v: complex(float(v[0]), float(v[1])),
    "bytes": lambda v: base64.b64decode(v, validate=True),
    "bytearray": lambda v: bytearray(base64.b64decode(v, validate=True)),
    "datetime": datetime.fromisoformat,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "timedelta": lambda v: timedelta(*v),
    "decimal": Decimal,
    "uuid": UUID,
    "path": lambda v: _path(v),
}


def _path(text: str) -> PurePath:
    from pathlib import Path

    return Path(text)
