"""The OpenAPI document of the API, made from the same tables that serve it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from rrqd import __version__
from rrqd.model.series import RINGS
from rrqd.model.wanted import WORDS
from rrqd.web.actions import ACTIONS, Action, Field
from rrqd.web.actions.shape import LARGEST
from rrqd.web.api import DEFAULT_LIMIT, MOST_OFFSET, PREFIX, View
from rrqd.web.failures import LOOK_LEAST, LOOK_MOST, Which
from rrqd.web.readings import PAGE_MOST
from rrqd.web.rules import MOST_DAYS
from rrqd.web.trends import DEFAULT_SPAN

OBJECT = {"application/json": {"schema": {"type": "object"}}}
TEXT = {"type": "string", "minLength": 1, "maxLength": 500, "pattern": "^[^\\u0000-\\u001f\\u007f]+$"}
TYPES: dict[str, dict[str, Any]] = {
    "text": TEXT,
    "whole": {"type": "integer", "maximum": LARGEST},
    "number": {"type": "number", "maximum": LARGEST},
    "flag": {"type": "boolean"},
    "texts": {"type": "array", "minItems": 1, "items": TEXT},
    "object": {"type": "object"},
}
QUERY: dict[str, dict[str, Any]] = {
    "offset": {"type": "integer", "minimum": 0, "maximum": MOST_OFFSET, "default": 0},
    "limit": {"type": "integer", "minimum": 1, "maximum": PAGE_MOST, "default": DEFAULT_LIMIT},
    "dlq": {"type": "string"},
    "look": {"type": "integer", "minimum": 1, "maximum": LOOK_MOST, "default": LOOK_LEAST},
    **{name: {"type": "string"} for name in Which._fields},
    "days": {"type": "integer", "minimum": 1, "maximum": MOST_DAYS, "default": 7},
    **{word: {"type": "string", "description": what} for word, what in WORDS.items()},
    "cursor": {"type": "string", "description": "next of the page before"},
    "span": {"type": "string", "enum": list(RINGS), "default": DEFAULT_SPAN},
    "before": {"type": "string", "pattern": r"^(\+|[0-9]{1,13}(-[0-9]{1,18})?)$"},
}
FAULTS = {
    401: "credentials are needed", 403: "not allowed, or from a foreign page", 404: "no such thing",
    422: "a parameter or the body is wrong", 429: "too many requests", 503: "the server or the daemon does not answer",
}  # fmt: skip


def document(views: Iterable[View]) -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, Any] = {}
    for view in views:
        paths[PREFIX + re.sub(r":path\}", "}", view.path)] = {"get": _of_view(view)}
    for action in ACTIONS.values():
        paths[f"{PREFIX}/actions/{action.name}"] = {"post": _of_action(action)}
    return {
        "openapi": "3.1.0",
        "info": {"title": "rrqd", "version": __version__, "description": "See and steer an rrqd daemon."},
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "name_and_token": {"type": "http", "scheme": "basic"},
            }
        },
        "security": [{"token": []}, {"name_and_token": []}, {}],
    }


def _of_view(view: View) -> dict[str, Any]:
    in_path = re.findall(r"\{(\w+)", view.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}} for name in in_path
    ] + [{"name": name, "in": "query", "required": False, "schema": QUERY[name]} for name in view.query]
    return {
        "summary": view.what,
        "parameters": parameters,
        "responses": {"200": {"description": "It.", "content": OBJECT}, **_faults()},
    }


def _of_action(action: Action) -> dict[str, Any]:
    schema = {
        "type": "object",
        "additionalProperties": False,
        "required": [name for name, one in action.fields.items() if one.needed],
        "properties": {name: _field(one) for name, one in action.fields.items()},
    }
    more = {409: "it can't be done now", 413: "the body is too large", 415: "the body is no JSON"}
    return {
        "summary": action.what,
        "requestBody": {"required": True, "content": {"application/json": {"schema": schema}}},
        "responses": {"200": {"description": "Done.", "content": OBJECT}, **_faults(more)},
    }


def _field(one: Field) -> dict[str, Any]:
    least = {"minimum": one.least} if one.kind in ("whole", "number") else {}
    return {**TYPES[one.kind], **least, "description": one.what}


def _faults(more: dict[int, str] | None = None) -> dict[str, Any]:
    all_of_them = {**FAULTS, **(more or {})}
    return {str(status): {"description": what, "content": OBJECT} for status, what in sorted(all_of_them.items())}
