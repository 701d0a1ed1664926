"""The OpenAPI 3.1 document's words: what each operation answers, in which forms, with which problems."""

from __future__ import annotations

from typing import Any

from usage_explore.api import problems
from usage_explore.api.negotiation import CSV, JSON
from usage_explore.api.problems import Kind
from usage_explore.api.schemas import ref
from usage_explore.query import limits

Answers = dict[int | str, dict[str, Any]]

TITLE = "usage-explore"
DESCRIPTION = f"""\
Metered usage events, exactly: the raw events, and how much over time. The same questions, names, defaults, answers
and errors as the Python package, the app and its links.

Decimals are strings, written plainly, exact to the last digit; times are RFC 3339 in UTC. Unknown parameters are
errors. Every error is `application/problem+json` and names each faulty parameter. An `X-Request-ID` of yours, up to 64
letters, digits and `._-`, is kept, so that you find the request in the server's log.

Every question is bounded, and beyond a bound there is an error that names the parameter and the bound:
{limits.MAX_VALUES:,} values in all filters, `top` counted in where there is a grouping; {limits.MAX_DIMENSIONS}
different dimensions; {limits.MAX_VALUE_BYTES:,} bytes for a value, {limits.MAX_KEY_BYTES:,} for a dimension's key;
{limits.MAX_QUERY_STRING:,} bytes and {limits.MAX_PARAMETERS:,} parameters for a query string; {limits.MAX_POINTS:,}
points for an answer, {limits.MAX_DRAWN:,} for a picture. A window of more than {limits.MAX_AGGREGATE_BUCKETS:,} buckets
starts later, and the answer says so (`capped`).

The answer to a pinned question never changes: one with an organization, an absolute window and an `as_of` at or before
the latest `ingested_at` that is at least the settle time old. It may be kept for ever and carries an ETag. No other
answer may be kept."""

_HEADERS = {
    "X-Request-ID": {"description": "Finds the request in the server's log.", "schema": {"type": "string"}},
}
_KEPT = {
    "ETag": {"description": "Where the answer never changes.", "schema": {"type": "string"}},
    "Cache-Control": {"schema": {"type": "string"}},
}
_RETRY = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
}
_QUESTION = (
    Kind.QUERY,
    Kind.UNAUTHORIZED,
    Kind.FORBIDDEN,
    Kind.NOT_ACCEPTABLE,
    Kind.TOO_LONG,
    Kind.MISDIRECTED,
    Kind.TOO_MANY,
    Kind.INTERNAL,
    Kind.UNAVAILABLE,
)
_CHALLENGE = {
    "WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}},
}

KEY = "key"
SECURITY_SCHEMES = {
    KEY: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "ue_<id>_<secret>",
        "description": "An API key of one organization, made by `usage-explore keys create`. A server for the one "
        "person on its machine has no keys and asks for none.",
    }
}
_MORE: dict[Kind, dict[str, Any]] = {Kind.UNAVAILABLE: _RETRY, Kind.TOO_MANY: _RETRY, Kind.UNAUTHORIZED: _CHALLENGE}


def answers(schema: str | None, *others: str, description: str, link: bool = False) -> Answers:
    """A 200 in JSON, of the named schema, and in other forms; and the 304 to who has it already."""
    content: dict[str, Any] = {JSON: {"schema": ref(schema)}} if schema else {}
    content |= {other: {"schema": {"type": "string"}} for other in others}
    headers = {**_HEADERS, **_KEPT}
    if link:
        headers["Link"] = {"description": 'The next page, `rel="next"`.', "schema": {"type": "string"}}
    else:
        path = "`rollup` or `events`, which path answered, and `dur`, the database's milliseconds."
        headers["Server-Timing"] = {"description": path, "schema": {"type": "string"}}
    return {
        "200": {"description": description, "headers": headers, "content": content},
        "304": {"description": "The client has this very answer already.", "headers": headers},
    }


def failures(*more: Kind) -> Answers:
    """The problems a question can end in, by status."""
    found: Answers = {}
    for kind in (*_QUESTION, Kind.MISMATCH, Kind.TIMEOUT, *more):
        known = found.get(str(kind.status.value), {})
        words = f"{kind.title}. {kind.when}"
        found[str(kind.status.value)] = {
            "description": f"{known.get('description', '')} {words}".strip(),
            "headers": {**_HEADERS, **known.get("headers", {}), **_MORE.get(kind, {})},
            "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
        }
    return found


def one(status: int, description: str, content: dict[str, Any], headers: dict[str, Any] | None = None) -> Answers:
    """A single answer by status."""
    return {str(status): {"description": description, "headers": {**_HEADERS, **(headers or {})}, "content": content}}


STATE = one(200, "All is well.", {JSON: {"schema": ref("State")}})
NOT_READY = one(503, "Not ready to answer questions.", {problems.MEDIA_TYPE: {"schema": ref("Problem")}}, _RETRY)
STREAM = one(
    200,
    "Every event, newest first. A stream that breaks ends with a line `# error: …` and a connection cut short.",
    {CSV: {"schema": {"type": "string"}}},
)
