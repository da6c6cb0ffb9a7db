"""pydantic's list of errors in our words: what the key should have been, one sentence each.

Pure: errors and the raw tables in, `Problem`s out. Values are quoted in the sentence except where one could be
a secret.
"""

from __future__ import annotations

import difflib
import itertools
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from rrqd.config.settings import Contradictions, Problem, Settings
from rrqd.redact import redact

KeyPath = tuple[str | int, ...]

_KINDS = {
    "string_type": "text in quotes",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "list_type": "a list in [brackets]",
    "dict_type": "a table",
    "model_type": "a table",
    "model_attributes_type": "a table",
    "path_type": "a path in quotes",
}
_LONGEST_QUOTE = 60
_ROUNDS = 3


def explain(error: ValidationError, tables: dict[str, Any]) -> list[Problem]:
    """Every problem of the tables, also those that only show once the plain mistakes are out of the way."""
    problems = _problems(error)
    # Taking a wrong value out may leave its table without a key it needs; then the table goes too.
    for _ in range(_ROUNDS):
        tables = _without(tables, error)
        try:
            Settings.model_validate(tables)
            break
        except ValidationError as rest:
            error = rest
            problems += [one for one in _problems(rest) if _is_contradiction(rest)]
    return problems


def _is_contradiction(error: ValidationError) -> bool:
    return isinstance(error.errors()[0].get("ctx", {}).get("error"), Contradictions)


def _problems(error: ValidationError) -> list[Problem]:
    found: list[Problem] = []
    for detail in error.errors(include_url=False):
        cause = detail.get("ctx", {}).get("error")
        if isinstance(cause, Contradictions):
            found += cause.problems
        else:
            path = tuple(name for name in detail["loc"] if name != "[key]")
            found.append(Problem(path, _sentence(detail, path)))
    return found


def _without(tables: dict[str, Any], error: ValidationError) -> dict[str, Any]:
    """The tables less what is wrong in them; a table that lacks a key goes as a whole."""
    cleaned: dict[str, Any] = _copied(tables)
    for detail in error.errors(include_url=False):
        path = tuple(name for name in detail["loc"] if name != "[key]")
        if detail["type"] == "missing":
            path = path[:-1]
        # One bad element takes its list along: without it the others would change their places.
        path = tuple(itertools.takewhile(lambda name: isinstance(name, str), path))
        inner: Any = cleaned
        for name in path[:-1]:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict) and path:
            inner.pop(path[-1], None)
    return cleaned


def _copied(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _copied(inner) for name, inner in value.items()}
    return value


def _sentence(detail: ErrorDetails, path: KeyPath) -> str:
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "extra_forbidden":
        return _unknown(path)
    if kind == "missing":
        return f"missing; {_description(path)}"
    if kind == "value_error":
        return f"{context['error']}{_got(value)}"
    if kind == "literal_error":
        return _one_of(context["expected"], value)
    if kind in _KINDS:
        return f"must be {_KINDS[kind]}{_got(value)}"
    if kind == "finite_number":
        return "must be a finite number"
    if kind in ("too_short", "string_too_short"):
        return "can't be empty"
    limits = {"greater_than": "gt", "greater_than_equal": "ge", "less_than": "lt", "less_than_equal": "le"}
    if kind in limits:
        words = {"gt": "above", "ge": "at least", "lt": "below", "le": "at most"}
        return f"must be {words[limits[kind]]} {_number(context[limits[kind]])}{_got(value)}"
    return f"{detail['msg'][:1].lower()}{detail['msg'][1:]}{_got(value)}"


def _number(value: Any) -> str:
    return str(int(value)) if float(value).is_integer() else str(value)


def _got(value: Any) -> str:
    """`; got "x"`, unless there is nothing useful to quote."""
    if isinstance(value, bool):
        return f"; got {str(value).lower()}"
    if isinstance(value, int | float):
        return f"; got {value}"
    if isinstance(value, str):
        if not value:
            return ""
        text = redact(value)
        return f'; got "{text if len(text) <= _LONGEST_QUOTE else text[:_LONGEST_QUOTE] + "…"}"'
    if isinstance(value, dict):
        return "; got a table"
    return "; got a list" if isinstance(value, list) else f"; got a {type(value).__name__}"


def _one_of(expected: str, value: Any) -> str:
    """pydantic writes `'a', 'b' or 'c'`; TOML writes double quotes."""
    choices = [part.strip(" '") for part in expected.replace(" or ", ",").split(",")]
    near = difflib.get_close_matches(str(value).lower(), choices, 1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    return f"must be {expected.replace(chr(39), chr(34))}{_got(value)}{hint}"


def _unknown(path: KeyPath) -> str:
    """An unknown key, with the nearest known one: of its own table first, then of the other tables."""
    key = str(path[-1])
    here = _model_at(path[:-1])
    known = list(here.model_fields) if here is not None else []
    near = difflib.get_close_matches(key.replace("-", "_"), known, 1, cutoff=0.6)
    if near:
        return f'unknown key; did you mean "{near[0]}"?'
    for table, model in _tables():
        if model is not here and key in model.model_fields:
            return f"unknown key; it belongs under [{table}]"
    return f"unknown key; known ones are {', '.join(known)}" if len(known) <= 15 else "unknown key"


def _tables() -> list[tuple[str, type[BaseModel]]]:
    named = {"rrq": ("rrq",), "rrqd": ("rrqd",), "rrqd.pools.<name>": ("rrqd", "pools", "")}
    named["rrq.runners.<name>"] = ("rrq", "runners", "")
    found = ((name, _model_at(path)) for name, path in named.items())
    return [(name, model) for name, model in found if model is not None]


def _model_at(path: KeyPath) -> type[BaseModel] | None:
    """The model of the table at `path`: names of fields, keys of mappings, indices of lists."""
    annotation: Any = Settings
    for name in path:
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            field = annotation.model_fields.get(str(name))
            annotation = field.annotation if field is not None else None
        else:
            annotation = next(iter(get_args(annotation)[-1:]), None)
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def _description(path: KeyPath) -> str:
    """What the field is for, as the model says it."""
    model = _model_at(path[:-1])
    field: FieldInfo | None = model.model_fields.get(str(path[-1])) if model is not None else None
    text = (field.description or "").partition(". ")[0] if field is not None else ""
    return f"needed: {text[:1].lower()}{text[1:]}".rstrip(".")
