"""The OpenAPI 3.1 document: its description, responses and security; see `parameters` and `schemas`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel

from usage_explore.api import problems, request_metrics
from usage_explore.api.parameters import Schema, ref
from usage_explore.api.parameters import parameters as parameters
from usage_explore.api.problems import ProblemType
from usage_explore.api.responses import CSV, JSON
from usage_explore.api.schemas import components as components
from usage_explore.query import limits
from usage_explore.remote import wire

Responses = dict[int | str, dict[str, Any]]

EXACT: dict[str, Any] = {
    wire.MEDIA_TYPE: {
        "schema": {
            "type": "object",
            "description": "The result as the Python package of the same version reads it; other programs use JSON.",
        }
    }
}

TITLE = "usage-explore"
DESCRIPTION = f"""\
Metered usage events, exactly: raw events, and usage over time. Queries have the same names, defaults, answers and
errors as in the Python package, the app and its links.

Decimals are strings, written plainly and exact to the last digit; times are RFC 3339 in UTC. Unknown parameters are
errors. Every error is `application/problem+json` and names each faulty parameter. The header `X-Request-ID` of a
request, up to 64 letters, digits and `._-`, is returned and logged.

Queries beyond these bounds are errors that name the parameter and the bound:
{limits.MAX_VALUES:,} values in all filters, `top` included if `group_by` is not `none`; {limits.MAX_DIMENSIONS}
different dimensions; {limits.MAX_VALUE_BYTES:,} bytes for a value, {limits.MAX_KEY_BYTES:,} for a dimension's key;
{limits.MAX_QUERY_STRING_BYTES:,} bytes and {limits.MAX_PARAMETERS:,} parameters for a query string;
{limits.MAX_POINTS:,} points for an answer, {limits.MAX_PICTURE_POINTS:,} for a picture. A window of more than
{limits.MAX_AGGREGATE_BUCKETS:,} buckets starts later, and the answer says so (`capped`).

The answer to a pinned query never changes: one with an organization, an absolute window and an `as_of` at or before
the latest `ingested_at` that is at least the settle time old. It may be cached for ever and has an ETag. No other
answer may be cached."""

_HEADERS = {
    "X-Request-ID": {"description": "Finds the request in the server's log.", "schema": {"type": "string"}},
}
_CACHING_HEADERS = {
    "ETag": {"description": "Only of an answer that never changes.", "schema": {"type": "string"}},
    "Cache-Control": {"schema": {"type": "string"}},
}
_RETRY_HEADERS = {
    "Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 0}},
}
_QUERY_PROBLEMS = (
    ProblemType.QUERY,
    ProblemType.UNAUTHORIZED,
    ProblemType.FORBIDDEN,
    ProblemType.NOT_ACCEPTABLE,
    ProblemType.TOO_LONG,
    ProblemType.MISDIRECTED,
    ProblemType.TOO_MANY,
    ProblemType.INTERNAL,
    ProblemType.UNAVAILABLE,
)
_CHALLENGE_HEADERS = {
    "WWW-Authenticate": {"description": "Bearer.", "schema": {"type": "string"}},
}

SECURITY_SCHEME, METRICS_SCHEME = "key", "metrics_key"
SECURITY_SCHEMES = {
    SECURITY_SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "ue_<id>_<secret>",
        "description": "An API key of one organization, from `usage-explore keys create`. A server without keys "
        "answers only requests from its own machine.",
    },
    METRICS_SCHEME: {
        "type": "http",
        "scheme": "bearer",
        "description": "The text of USAGE_EXPLORE_METRICS_KEY; a server without it answers only its own machine.",
    },
}
_PROBLEM_HEADERS: dict[ProblemType, dict[str, Any]] = {
    ProblemType.UNAVAILABLE: _RETRY_HEADERS,
    ProblemType.TOO_MANY: _RETRY_HEADERS,
    ProblemType.UNAUTHORIZED: _CHALLENGE_HEADERS,
}


def answer_responses(
    schema: str | None, *others: str, description: str, link: bool = False, timed: bool = True
) -> Responses:
    """A 200 with JSON of the named schema and other media types, and a 304; `link` for paged answers.

    `timed` answers say which path read them.
    """
    content: dict[str, Any] = {JSON: {"schema": ref(schema)}, **EXACT} if schema else {}
    content |= {other: {"schema": {"type": "string"}} for other in others}
    headers = {**_HEADERS, **_CACHING_HEADERS}
    if link:
        headers["Link"] = {"description": 'The next page, `rel="next"`.', "schema": {"type": "string"}}
    elif timed:
        description_of_timing = "The path that answered, `extract` or `events`, and `dur`, the database's milliseconds."
        headers["Server-Timing"] = {"description": description_of_timing, "schema": {"type": "string"}}
    return {
        "200": {"description": description, "headers": headers, "content": content},
        "304": {"description": "`If-None-Match` has the ETag of this answer.", "headers": headers},
    }


def problem_responses(*more: ProblemType) -> Responses:
    """The problems of an operation with a query, by status; `more` adds to those of all such operations."""
    result: Responses = {}
    for problem in (*_QUERY_PROBLEMS, ProblemType.MISMATCH, ProblemType.TIMEOUT, *more):
        same_status = result.get(str(problem.status.value), {})
        description = f"{same_status.get('description', '')} {problem.title}. {problem.when}"
        result[str(problem.status.value)] = {
            "description": description.strip(),
            "headers": {**_HEADERS, **same_status.get("headers", {}), **_PROBLEM_HEADERS.get(problem, {})},
            "content": {problems.MEDIA_TYPE: {"schema": ref("Problem")}},
        }
    return result


def _response(
    status: int, description: str, content: dict[str, Any], headers: dict[str, Any] | None = None
) -> Responses:
    return {str(status): {"description": description, "headers": {**_HEADERS, **(headers or {})}, "content": content}}


def body(model: type[BaseModel]) -> Schema:
    """The body of a request, in JSON."""
    schema = {
        **model.model_json_schema(),
        "examples": [{"page": "explore", "params": "group_by=metric_key&since=-30d"}],
    }
    return {"required": True, "content": {JSON: {"schema": schema}}}


TOKEN: Schema = {
    "name": "token",
    "in": "path",
    "required": True,
    "description": "The last part of the link's address.",
    "schema": {"type": "string", "minLength": 1},  # one that no link can have is a 410, as an unknown one is
}
LINKS = _response(200, "The links.", {JSON: {"schema": ref("Links")}})
NEW_LINK = _response(
    201,
    "The link.",
    {JSON: {"schema": ref("Link")}},
    {"Location": {"description": "The link's address.", "schema": {"type": "string", "format": "uri"}}},
)
REVOKED: Responses = {"204": {"description": "Revoked.", "headers": _HEADERS}}
ALIVE = _response(200, "Ready.", {JSON: {"schema": ref("State")}})
_PROBLEM_CONTENT: dict[str, Any] = {problems.MEDIA_TYPE: {"schema": ref("Problem")}}
NOT_READY = _response(503, "Not ready.", _PROBLEM_CONTENT, _RETRY_HEADERS)
METRICS = (
    _response(200, "The metrics.", {request_metrics.MEDIA_TYPE: {"schema": {"type": "string"}}})
    | _response(401, "The metrics key is missing or wrong.", _PROBLEM_CONTENT, _CHALLENGE_HEADERS)
    | _response(421, "The request does not come from this machine, or passed a proxy.", _PROBLEM_CONTENT)
    | _response(429, "Too many wrong keys.", _PROBLEM_CONTENT, _RETRY_HEADERS)
)
EXPORT = _response(
    200,
    "Every event, newest first. A stream that fails ends with a line `# error: …` and a connection cut short.",
    {CSV: {"schema": {"type": "string"}}, wire.ARROW: {"schema": {"type": "string", "format": "binary"}}},
)

JOB_DELETED: Responses = {"204": {"description": "It is cancelled and forgotten.", "headers": _HEADERS}}
JOB_ID: Schema = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The id of the job.",
    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
}


def job(noun: str) -> Responses:
    """The response with a job."""
    return _response(200, "The job.", _job_content(noun))


def jobs(noun: str) -> Responses:
    """The response with all jobs of a kind."""
    return _response(200, "The jobs.", {JSON: {"schema": ref(f"{noun.capitalize()}Jobs")}})


def job_started(noun: str) -> Responses:
    """The response with a job that was started."""
    location = {"Location": {"description": "Its address.", "schema": {"type": "string"}}}
    return _response(202, "It waits or runs.", _job_content(noun), location)


def _job_content(noun: str) -> dict[str, Any]:
    return {JSON: {"schema": ref(f"{noun.capitalize()}Job")}, **EXACT}


def files(names: tuple[str, ...]) -> dict[str, Any]:
    """The body of a request that takes files."""
    kinds = {"prices": ".toml, .csv, .xlsx or .parquet", "bounds": ".toml"}
    properties = {
        name: {
            "type": "string",
            "format": "binary",
            "description": f"A {kinds.get(name, '.csv, .xlsx or .parquet')} file, as of `usage-explore validate`.",
        }
        for name in names
    }
    schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {"requestBody": {"required": False, "content": {"multipart/form-data": {"schema": schema}}}}
