"""How a call of a function is written as a job: name, arguments and wishes to the parameters, and back.

``{"args": […], "kwargs": {…}, "rq": {wishes}}``; or, pickled, ``{"pickle": text, "signature": hex, "rq": {…}}``.

Rule 1: a pickle is read only after its signature has been found right, for this very job and function.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import pickle
from collections.abc import Callable
from typing import Any, NamedTuple

from rrqd.rq.codec import MARK, Allow, CodecError, decode, encode

JSON = "json"
PICKLE = "pickle"
#: Where the key for signatures comes from; asked only when there is a pickle.
KeyOf = Callable[[], bytes]


class Call(NamedTuple):
    """Arguments of a function and what else was wished for its job."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def serializer_of(named: Any) -> str:
    """``"json"`` or ``"pickle"`` for what RQ takes as a serializer: a name, a class of RQ's, or nothing."""
    text = named if isinstance(named, str) else getattr(named, "__name__", type(named).__name__)
    if named is None or "json" in text.lower():
        return JSON
    if text.lower() in (PICKLE, "pickleserializer", "defaultserializer"):
        return PICKLE
    raise ValueError(f"serializer must be 'json' or 'pickle', not {named!r}")


def write_call(call: Call, wishes: dict[str, Any], serializer: str, subject: str, key_of: KeyOf) -> dict[str, Any]:
    """The job's parameters. ``subject`` says for which job they are. Raises CodecError."""
    params: dict[str, Any]
    if serializer == PICKLE:
        text, signature = _signed(call, subject, key_of())
        params = {"pickle": text, "signature": signature}
    else:
        params = {}
        if call.args:
            params["args"] = [encode(value, f"argument {nth}") for nth, value in enumerate(call.args, 1)]
        if call.kwargs:
            params["kwargs"] = {name: encode(value, f"the argument {name}") for name, value in call.kwargs.items()}
    if wishes:
        params["rq"] = wishes
    return params


def read_call(params: Any, subject: str, allow: Allow, key_of: KeyOf) -> Call:
    """The call again. Raises CodecError when it can't be read here."""
    if not isinstance(params, dict):
        raise CodecError("its parameters are not those of a call")
    if "pickle" in params:
        value = _unsigned(params["pickle"], params.get("signature"), subject, key_of())
        return Call(tuple(value[0]), dict(value[1]))
    args, kwargs = params.get("args", []), params.get("kwargs", {})
    if not isinstance(args, list) or not isinstance(kwargs, dict):
        raise CodecError("its parameters are not those of a call: args is a list, kwargs a mapping")
    return Call(tuple(decode(one, allow) for one in args), {name: decode(one, allow) for name, one in kwargs.items()})


def write_result(value: Any, pickled: bool, subject: str, key_of: KeyOf) -> Any:
    """JSON-able data for a result. Raises CodecError."""
    if not pickled:
        return encode(value, "the result")
    text, signature = _signed(value, f"{subject} result", key_of())
    return {MARK: PICKLE, "v": text, "signature": signature}


def read_result(data: Any, subject: str, allow: Allow, key_of: KeyOf) -> Any:
    """The result again. Raises CodecError."""
    if isinstance(data, dict) and data.get(MARK) == PICKLE:
        return _unsigned(data.get("v"), data.get("signature"), f"{subject} result", key_of())
    return decode(data, allow)


def _signed(value: Any, subject: str, key: bytes) -> tuple[str, str]:
    try:
        raw = pickle.dumps(value, protocol=5)
    except Exception as fault:
        raise CodecError(f"it can't be pickled: {fault}") from None
    return base64.b64encode(raw).decode(), _signature(raw, subject, key)


def _unsigned(text: Any, signature: Any, subject: str, key: bytes) -> Any:
    try:
        raw = base64.b64decode(text, validate=True)
    except (TypeError, ValueError) as fault:
        raise CodecError(f"its pickle is no base64 text: {fault}") from None
    if not isinstance(signature, str) or not hmac.compare_digest(
        signature.encode(), _signature(raw, subject, key).encode()
    ):
        raise CodecError("the signature of its pickle is not right: it was made with another key, or was tampered with")
    try:
        return pickle.loads(raw)
    except Exception as fault:
        raise CodecError(f"its pickle can't be read here: {type(fault).__name__}: {fault}") from None


def _signature(raw: bytes, subject: str, key: bytes) -> str:
    return hmac.new(key, subject.encode() + b"\0" + raw, hashlib.sha256).hexdigest()
