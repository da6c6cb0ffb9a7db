"""A handler's answer as JSON text. Pure."""

from __future__ import annotations

from typing import Any

import msgspec

from rrqd.model.checks import refuse_odd_numbers

_PLAIN = (str, int, bool, type(None))


def _hook(value: Any) -> Any:
    """Pydantic models and the like; anything else is refused with its type's name."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    raise TypeError(f"{type(value).__module__}.{type(value).__qualname__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_hook).encode


def result_json(value: Any) -> bytes:
    """The JSON text. Raises whatever the value's own methods raise, ``TypeError`` for what is no JSON and
    ``ValueError`` for a number that JSON can't hold."""
    if type(value) is msgspec.Raw:  # JSON already: a runner's answer
        return bytes(value)
    if type(value) not in _PLAIN:
        value = msgspec.to_builtins(value, enc_hook=_hook)  # a NaN may hide in a dataclass
        refuse_odd_numbers(value)
    return _encode(value)
