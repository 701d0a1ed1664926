"""What the server does, on standard error: a line of JSON for each request, each question of the app, each fault.

Everything outside ASCII and every control character is escaped, so that no value makes a line of its own. API keys and
the credentials of an address are blotted out wherever they would turn up; headers and cookies are never written.
"""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from usage_explore.query.base import Question
from usage_explore.query.filters import DIMENSION
from usage_explore.query.queries import AggregateQuery, EventQuery
from usage_explore.query.url_params import NOT

_LONGEST_VALUE, _LONGEST_REASON, _LONGEST_TRACE = 200, 1_000, 8_000
_MOST_PARAMETERS = 100
_MOST_LINES, _WINDOW = 100, 10.0  # lines of libraries, in as many seconds
_KNOWN = {"chart", "theme", "escape_formulas", *EventQuery.model_fields, *AggregateQuery.model_fields}
_API_KEY = re.compile(r"ue_[0-9a-fA-F]{8}_[\w-]+")
_CREDENTIALS = re.compile(r"(://[^/\s:@\"]*:)[^/\s@\"]+(@)|(password=)(?:'[^']*'|[^\s\"\\&]+)", re.IGNORECASE)


class Lines(logging.Formatter):
    """A record as one line of JSON; what `extra={"fields": …}` holds stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line. Time is RFC 3339 in UTC."""
        when = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        entry: dict[str, Any] = {
            "time": when.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": cut(record.getMessage(), _LONGEST_REASON),
            "logger": record.name,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["trace"] = self.formatException(record.exc_info)[-_LONGEST_TRACE:]
        return blotted(json.dumps(entry, default=str))


class Few(logging.Filter):
    """At most 100 lines of libraries in 10 seconds; the next line says how many were `left_out`."""

    def __init__(self) -> None:
        super().__init__()
        self._ends, self._number = 0.0, 0

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is written."""
        if record.name.partition(".")[0] == "usage_explore":
            return True
        now = time.monotonic()
        if now >= self._ends:
            if self._number > _MOST_LINES:
                record.fields = {"left_out": self._number - _MOST_LINES}
            self._ends, self._number = now + _WINDOW, 0
        self._number += 1
        return self._number <= _MOST_LINES


def to_standard_error() -> None:
    """Write what happens here, and what libraries warn of, as JSON lines to standard error.

    Libraries that brought a handler of their own write through this one instead.
    """
    for name in list(logging.root.manager.loggerDict):
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    handler = logging.StreamHandler()
    handler.setFormatter(Lines())
    handler.addFilter(Few())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.captureWarnings(True)
    logging.getLogger("usage_explore").setLevel(logging.INFO)


def blotted(text: str) -> str:
    """The text without API keys and without the passwords of addresses."""
    return _CREDENTIALS.sub(r"\1\3***\2", _API_KEY.sub("ue_***", text))


def cut(text: str, longest: int = _LONGEST_VALUE) -> str:
    """The text, its end left out where it is long."""
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def told(question: Question) -> dict[str, list[str]]:
    """A question for the log: its parameters, bounded in number and length."""
    return listed(question.to_params())


def listed(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Parameters for the log, as somebody sent them; of unknown ones only the name: the value could be a secret."""
    found: dict[str, list[str]] = {}
    for number, (name, value) in enumerate(pairs):
        if number == _MOST_PARAMETERS:
            found["…"] = ["more"]
            break
        known = name in _KNOWN or name.startswith((DIMENSION, NOT))
        found.setdefault(cut(name), []).append(cut(value) if known else "…")
    return found


def reason(error: BaseException) -> str:
    """Why something failed, in one bounded line."""
    return cut(f"{type(error).__name__}: {error}", _LONGEST_REASON)


def since(began: float) -> float:
    """Milliseconds since a `time.perf_counter()`."""
    return round((time.perf_counter() - began) * 1_000, 1)


@contextmanager
def noting(log: logging.Logger, event: str, **fields: object) -> Iterator[None]:
    """Write one line about what is done inside: the fields, the milliseconds, and the reason where it fails."""
    began = time.perf_counter()
    try:
        yield
    except Exception as error:
        log.warning(event, extra={"fields": {**fields, "ms": since(began), "reason": reason(error)}})
        raise
    log.info(event, extra={"fields": {**fields, "ms": since(began)}})
