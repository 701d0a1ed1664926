"""Logs on stderr: one JSON line for each request, each query of the app and each error.

Control characters and everything outside ASCII are escaped, so that a value cannot add a line. API keys and passwords
in URLs are redacted everywhere; headers and cookies are never written.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from usage_explore.errors import is_out_of_files
from usage_explore.query.base import Query
from usage_explore.query.filters import DIMENSION
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.url_params import NOT

_MAX_VALUE_CHARACTERS, _MAX_REASON_CHARACTERS, _MAX_TRACE_CHARACTERS = 200, 1_000, 8_000
_MAX_PARAMETERS = 100
_MAX_LIBRARY_LINES, _WINDOW_SECONDS = 100, 10.0
_KNOWN_PARAMETERS = {"chart", "theme", "escape_formulas", *EventQuery.model_fields, *AggregateQuery.model_fields}
_API_KEY = re.compile(r"ue_[0-9a-fA-F]{8}_[\w-]+")
_CREDENTIALS = re.compile(r"(://[^/\s:@\"]*:)[^/\s@\"]+(@)|(password=)(?:'[^']*'|[^\s\"\\&]+)", re.IGNORECASE)


_STREAMLIT_NO_SIGN_IN = "Error during OAuth authorization redirect."
"""Streamlit's message, with a trace, where the provider of the sign-in cannot be asked."""


class JsonLines(logging.Formatter):
    """A log record as one line of JSON; `extra={"fields": …}` adds fields beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. Time is RFC 3339 in UTC."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": truncated(record.getMessage(), _MAX_REASON_CHARACTERS),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)[-_MAX_TRACE_CHARACTERS:]
        return redacted(json.dumps(entry, default=str))


class LibraryLimit(logging.Filter):
    """At most 100 lines from libraries in 10 seconds; the next line counts the others as `left_out`.

    Streamlit fails after its client has left: it closes a WebSocket that is closed. That is no error and not written.
    A sign-in provider that does not answer is one line without a trace, and so are too many open files.
    """

    def __init__(self) -> None:
        super().__init__()
        self._ends, self._number = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.name.partition(".")[0] == "usage_explore":
            return True
        if record.exc_info and type(record.exc_info[1]).__name__ == "WebSocketDisconnected":  # of newer Starlettes
            return False
        if record.exc_info and record.exc_info[1] and record.msg == _STREAMLIT_NO_SIGN_IN:
            error, record.exc_info = record.exc_info[1], None
            record.msg = f"the sign-in provider did not answer: {type(error).__name__}: {error}"
        if record.exc_info and record.exc_info[1] and is_out_of_files(record.exc_info[1]):
            error, record.exc_info = record.exc_info[1], None
            record.msg, record.args = f"{record.getMessage().strip()}: {reason(error)}", None
        now = time.monotonic()
        if now >= self._ends:
            if self._number > _MAX_LIBRARY_LINES:
                record.fields = {"left_out": self._number - _MAX_LIBRARY_LINES}
            self._ends, self._number = now + _WINDOW_SECONDS, 0
        self._number += 1
        return self._number <= _MAX_LIBRARY_LINES


def to_standard_error() -> None:
    """Write our log, and warnings and failed finalizers of libraries, as JSON lines to stderr.

    Replaces the handlers of libraries.
    """
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines())
    handler.addFilter(LibraryLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    sys.unraisablehook = _log_unraisable
    logging.getLogger("usage_explore").setLevel(logging.INFO)


def _log_unraisable(failed: sys.UnraisableHookArgs) -> None:
    """Log what a finalizer raised: Python writes its trace to stderr, each time."""
    logging.getLogger("sys.unraisablehook").error(
        "%s: %r", failed.err_msg or "Exception ignored in", failed.object, exc_info=failed.exc_value
    )


def redacted(text: str) -> str:
    """The text with API keys and the passwords of URLs replaced by `***`."""
    return _CREDENTIALS.sub(r"\1\3***\2", _API_KEY.sub("ue_***", text))


def truncated(text: str, max_characters: int = _MAX_VALUE_CHARACTERS) -> str:
    """The text, or its beginning and its length in characters."""
    return text if len(text) <= max_characters else f"{text[:max_characters]}… ({len(text):,} characters)"


def query_fields(query: Query) -> dict[str, list[str]]:
    """The parameters of a query for the log, bounded in number and length."""
    return parameter_fields(query.to_params())


def parameter_fields(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Parameters as sent, for the log; of unknown ones only the name, since the value could be a secret."""
    fields: dict[str, list[str]] = {}
    for number, (name, value) in enumerate(pairs):
        if number == _MAX_PARAMETERS:
            fields["…"] = ["more"]
            break
        known = name in _KNOWN_PARAMETERS or name.startswith((DIMENSION, NOT))
        fields.setdefault(truncated(name), []).append(truncated(value) if known else "…")
    return fields


def reason(error: BaseException) -> str:
    """The error on one line, at most 1,000 characters."""
    return truncated(f"{type(error).__name__}: {error}", _MAX_REASON_CHARACTERS)


def milliseconds_since(began: float) -> float:
    """Milliseconds since a `time.perf_counter()`."""
    return round((time.perf_counter() - began) * 1_000, 1)


@contextmanager
def logged(log: logging.Logger, event: str, **fields: object) -> Iterator[None]:
    """Log one line for the block: the fields, its milliseconds, and the reason if it fails."""
    began = time.perf_counter()
    try:
        yield
    except Exception as error:
        log.warning(event, extra={"fields": {**fields, "ms": milliseconds_since(began), "reason": reason(error)}})
        raise
    log.info(event, extra={"fields": {**fields, "ms": milliseconds_since(began)}})
