"""What rrqd says: one event a line, on stderr, from every process in the same form.

Rules of this file:

* An event is a name (``worker.died``) and fields. On a terminal it is readable, otherwise one JSON object.
* One line is one `write` of less than 4096 bytes: on a pipe such a write is never torn, so all processes may
  share the operator's stderr and nobody stands in between. Longer fields are cut, and say so.
* The master must not wait for whoever reads its stderr. It asks first whether a write would wait and keeps a
  bounded backlog otherwise. `O_NONBLOCK` is no way out: the flag would belong to all children as well.
* structlog is for everybody but the master: importing it brings in asyncio, which the master never loads.
  The master speaks through `Journal.logger`; both end in the same `render`.
* Tracebacks carry no local variables: handlers have secrets in them.
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import select
import sys
import time
import traceback
from collections import deque
from collections.abc import Mapping, MutableMapping
from datetime import UTC, datetime
from typing import Any

LINE_BYTES = 4096
"""PIPE_BUF on Linux: the longest write that a pipe takes in one piece."""
BACKLOG_LINES = 1000
LEVELS = {"debug": 10, "info": 20, "warning": 30, "warn": 30, "error": 40, "critical": 50}
_COLOURS = {"debug": "2", "info": "32", "warning": "33", "error": "31", "critical": "1;31"}


class Journal:
    """Where the lines of this process go.

    `patient`: False for the master and the steward, which drop rather than wait.
    """

    def __init__(
        self,
        role: str,
        *,
        as_json: bool,
        level: str = "info",
        fields: Mapping[str, Any] | None = None,
        patient: bool = True,
        fd: int = 2,
    ) -> None:
        self.role = role
        self.as_json = as_json
        self.threshold = LEVELS.get(level, 20)
        self.fields = dict(fields or {})
        self.patient = patient
        self.fd = fd
        self.dropped = 0
        self._backlog: deque[bytes] = deque()
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def write(self, event: Mapping[str, Any]) -> None:
        """Put one event out. Never raises: a log line is not worth a process."""
        whole: dict[str, Any] = {"role": self.role, **self.fields, **event}
        if LEVELS.get(str(whole.get("level", "info")), 20) < self.threshold:
            return
        line = render(whole, as_json=self.as_json)
        try:
            if self.patient:
                os.write(self.fd, line)
            else:
                self._write_if_free(line)
        except OSError:
            self.dropped += 1

    def _write_if_free(self, line: bytes) -> None:
        self._backlog.append(line)
        self.flush()
        while len(self._backlog) > BACKLOG_LINES:
            self._backlog.popleft()
            self.dropped += 1

    def flush(self) -> None:
        """Write what has been kept back, as far as nobody has to wait."""
        while self._backlog and self._poll.poll(0):
            os.write(self.fd, self._backlog.popleft())

    def logger(self, **fields: Any) -> Logger:
        """A logger in structlog's manner that needs no structlog."""
        return Logger(self, fields)


class Logger:
    """``log.info("worker.ready", pool="default", slot=0)``"""

    def __init__(self, journal: Journal, fields: Mapping[str, Any]) -> None:
        self._journal = journal
        self._fields = dict(fields)

    def bind(self, **fields: Any) -> Logger:
        return Logger(self._journal, {**self._fields, **fields})

    def _say(self, level: str, event: str, fields: Mapping[str, Any]) -> None:
        self._journal.write({"level": level, **self._fields, **fields, "event": event})

    def debug(self, event: str, **fields: Any) -> None:
        self._say("debug", event, fields)

    def info(self, event: str, **fields: Any) -> None:
        self._say("info", event, fields)

    def warning(self, event: str, **fields: Any) -> None:
        self._say("warning", event, fields)

    def error(self, event: str, **fields: Any) -> None:
        self._say("error", event, fields)

    def exception(self, event: str, **fields: Any) -> None:
        self._say("error", event, {"exc_info": True, **fields})


_journal = Journal("rrqd", as_json=False)


def journal() -> Journal:
    """The journal of this process, as `configure` left it."""
    return _journal


def configure(role: str, format: str = "auto", level: str = "info", fields: Mapping[str, Any] | None = None) -> Journal:
    """Set up logging for this process: our events, structlog's and the standard library's.

    `format`: "auto" (a terminal gets readable lines, anything else JSON), "console" or "json".
    May be called again, e.g. after a fork; loggers made earlier follow.
    """
    global _journal
    as_json = format == "json" or (format == "auto" and not os.isatty(2))
    # Whoever reads stderr may stall. The master must go on watching, the steward renewing the lease: they drop lines.
    patient = role not in ("master", "steward")
    _journal = Journal(role, as_json=as_json, level=level, fields=fields, patient=patient)
    _catch_standard_logging(_journal.threshold)
    if role != "master":
        _configure_structlog(_journal.threshold)
    return _journal


def _configure_structlog(threshold: int) -> None:
    structlog = light_structlog()
    structlog.configure(
        processors=[structlog.contextvars.merge_contextvars, structlog.processors.add_log_level, _for_sink],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=lambda *_names: _Sink(),
        cache_logger_on_first_use=False,
    )


def light_structlog() -> Any:
    """structlog, loaded here and not at the top: it brings asyncio, and the master must stay free of it.

    It also takes rich when that can be had, for tracebacks that we render ourselves; a child that starts often pays
    for that each time. So, for this one import, there is no rich.
    """
    hidden = "rich" not in sys.modules and "structlog" not in sys.modules
    if hidden:
        sys.modules["rich"] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("structlog")
    finally:
        if hidden:
            del sys.modules["rich"]


def _for_sink(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (dict(event),), {}


def keep_off_stdout() -> None:
    """For a worker in a program that is not ours: unless it has a structlog of its own, warnings go to stderr."""
    structlog = light_structlog()
    if not structlog.is_configured():
        structlog.configure(
            processors=[structlog.processors.add_log_level, _as_line],
            wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
            logger_factory=lambda *_names: structlog.PrintLogger(sys.stderr),
        )


def _as_line(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> str:
    return render(event, as_json=False).decode("utf-8", "replace").rstrip("\n")


class _Sink:
    """structlog's last step: whatever the level's name, the event goes to the journal of this moment."""

    def msg(self, event: Mapping[str, Any]) -> None:
        _journal.write(event)

    debug = info = warning = warn = error = critical = fatal = exception = failure = log = msg


class _FromStandardLogging(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = record.levelname.lower()
        event: dict[str, Any] = {
            "level": level if level in LEVELS else "info",
            "logger": record.name,
            "event": record.getMessage(),
        }
        if record.exc_info and record.exc_info[0] is not None:
            event["exc_info"] = record.exc_info
        _journal.write(event)


def _catch_standard_logging(threshold: int) -> None:
    root = logging.getLogger()
    root.handlers[:] = [_FromStandardLogging()]
    # Libraries are talkative below WARNING; whoever asks for debug wants to hear them.
    root.setLevel(threshold if threshold <= 10 else max(threshold, logging.WARNING))


def render(event: Mapping[str, Any], *, as_json: bool, wall_seconds: float | None = None) -> bytes:
    """One event as one line of at most 4096 bytes, the line feed included."""
    fields = dict(event)
    error = _traceback(fields.pop("exc_info", None))
    if error:
        fields["exception"] = error
    level, name = str(fields.pop("level", "info")), str(fields.pop("event", ""))
    moment = datetime.fromtimestamp(time.time() if wall_seconds is None else wall_seconds, UTC)
    if as_json:
        head = {"time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"), "level": level}
        return _fit(fields, lambda some: _json_line({**head, "event": name, **some}))
    clock = moment.astimezone().strftime("%H:%M:%S.%f")[:-3]
    colour = _COLOURS.get(level, "0") if sys.stderr is not None and os.isatty(2) else None
    shown = f"\x1b[{colour}m{level:<7}\x1b[0m" if colour else f"{level:<7}"
    return _fit(fields, lambda some: _console_line(f"{clock} {shown} {name}", some))


def _json_line(event: Mapping[str, Any]) -> bytes:
    text = json.dumps(event, separators=(",", ":"), default=str, ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def _console_line(head: str, fields: Mapping[str, Any]) -> bytes:
    parts, tail = [head], ""
    for key, value in fields.items():
        text = _text(value)
        if "\n" in text:
            tail += "\n" + "\n".join(f"    {line}" for line in text.rstrip("\n").split("\n"))
        else:
            parts.append(f"{key}={json.dumps(text, ensure_ascii=False) if ' ' in text or not text else text}")
    return (" ".join(parts) + tail + "\n").encode("utf-8", "replace")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)


def _fit(fields: dict[str, Any], line: Any) -> bytes:
    """Cut the longest field again and again until the line fits."""
    data: bytes = line(fields)
    while len(data) > LINE_BYTES:
        texts = {key: _text(value) for key, value in fields.items()}
        longest = max(texts, key=lambda key: len(texts[key]), default=None)
        if longest is None or len(texts[longest]) < 64:
            return data[: LINE_BYTES - 1] + b"\n"
        text = texts[longest]
        keep = max(32, len(text) - max(64, (len(data) - LINE_BYTES) // 2 + 32))
        # The end of a traceback names the error, so of an exception the end is kept.
        fields[longest] = ("…" + text[-keep:]) if longest == "exception" else text[:keep] + "…"
        data = line(fields)
    return data


def _traceback(exc_info: Any) -> str:
    if not exc_info:
        return ""
    if isinstance(exc_info, BaseException):
        exc_info = (type(exc_info), exc_info, exc_info.__traceback__)
    elif not isinstance(exc_info, tuple):
        exc_info = sys.exc_info()
    if exc_info[0] is None:
        return ""
    return "".join(traceback.format_exception(*exc_info)).rstrip("\n")
