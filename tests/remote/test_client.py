"""The client of a server: its key stays secret and goes nowhere else, and its failures are the package's errors."""

from __future__ import annotations

import gzip
import http.server
import json
import logging
import pickle
import socket
import ssl
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from support import generated_events
from support.api_server import asking
from usage_explore import AggregateQuery, EventQuery, Period, Store, config, connect
from usage_explore.access.api_keys import Keyring
from usage_explore.api.auth import Access
from usage_explore.cli.main import main
from usage_explore.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    NoPriceBook,
    NotExact,
    QueryError,
    ScopeError,
    ServerError,
    StatementTimeout,
    TableMismatch,
    UsageExploreError,
)
from usage_explore.remote import client, wire
from usage_explore.remote.client import Client, problem_error

KEY = "ue_0a1b2c3d_" + "s" * 43


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("http://usage.example.com", "http:// would send key and data unencrypted"),
        ("http://127.0.0.1.evil.example", "unencrypted"),
        ("http://localhost.evil.example", "unencrypted"),
        ("http://10.0.0.1:8501", "unencrypted"),
        ("https://name:secret@usage.example.com", "not the address alone"),
        ("https://usage.example.com?key=secret", "not the address alone"),
        ("https://usage.example.com#secret", "not the address alone"),
        ("https://", "not the address alone"),
        ("https://usage.example.com:port", "no readable address"),
        ("https://[::1", "no readable address"),
    ],
)
def test_only_safe_addresses_are_taken(address: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as error:
        connect(address, key=KEY)
    assert "secret" not in str(error.value)
    assert KEY not in str(error.value)


@pytest.mark.parametrize("key", ["", "secret", "ue_1_" + "s" * 8, f"{KEY}\r\nX: y", f"Bearer {KEY}", KEY + "é"])
def test_what_is_no_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigurationError, match="key: is no key of this kind") as error:
        connect("https://usage.example.com", key=key)
    assert not key or key not in str(error.value)


def test_this_machine_and_paths_are_taken() -> None:
    for address in (
        "http://localhost:8501",
        "http://[::1]:8600/",
        "HTTP://127.0.0.2",
        "https://usage.example.com/usage/",
    ):
        assert connect(address, key=KEY).client.url == address.lower().rstrip("/")  # type: ignore[attr-defined]


def test_the_key_is_nowhere_to_be_seen(
    everyone: Store, tmp_path_factory: pytest.TempPathFactory, caplog: pytest.LogCaptureFixture
) -> None:
    ring = Keyring(tmp_path_factory.mktemp("keys") / "keys.json")
    key = ring.create(generated_events.ORGANIZATION, "notebook")
    secret = key.split("_", 2)[2]
    seen: list[str] = []
    caplog.set_level(logging.DEBUG)
    with asking(everyone, access=Access(ring)) as server:
        store = connect(str(server.base_url).removesuffix("/api/"), key=key)
        answer = store.aggregate(AggregateQuery(since="2026-03-01T00:00:00Z"))
        client = store.client  # type: ignore[attr-defined]
        seen += [repr(store), str(store), repr(client), repr(client._http), repr(vars(client._http)), repr(answer)]
        assert pickle.loads(pickle.dumps(answer)) == answer
        for kept in (store, client):
            with pytest.raises(TypeError, match="cannot be pickled"):
                pickle.dumps(kept)
        ring.revoke(key.split("_")[1])
        for ask in (lambda: store.count(EventQuery()), lambda: store.read(), lambda: store.validate(Period())):
            with pytest.raises(ConfigurationError, match="key: the server wants one") as refused:
                ask()  # type: ignore[no-untyped-call]
            seen += [repr(refused.value), "".join(traceback.format_exception(refused.value))]
        store.close()
    with pytest.raises(DatabaseUnavailable) as gone:
        store.count(EventQuery())
    seen += ["".join(traceback.format_exception(gone.value)), caplog.text]
    seen += [str(vars(record)) for record in caplog.records]
    assert len(seen) > 12
    assert not [text for text in seen if secret in text]


class Answers(http.server.BaseHTTPRequestHandler):
    """A server that answers what the test says, and keeps what it was sent."""

    answers: list[tuple[int, dict[str, str], bytes]]
    received: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.received.append((self.path, self.headers.get("Authorization")))
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.do_GET()

    def do_DELETE(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Nothing is logged."""


Serve = Callable[..., tuple[Store, list[tuple[str, str | None]]]]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Makes a store on a server with these answers, the last one for ever, and what the server received."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def start(*answers: tuple[int, dict[str, str], bytes], **options: Any) -> Any:
        received: list[tuple[str, str | None]] = []
        handler = type("Handler", (Answers,), {"answers": list(answers), "received": received})
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return connect(f"http://127.0.0.1:{server.server_port}", key=KEY, **options), received

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def problem(kind: str, **more: Any) -> bytes:
    body = {"type": f"urn:usage-explore:problem:{kind}", "title": "t", "detail": "words", "request_id": "r1", **more}
    return json.dumps(body).encode()


def test_a_busy_server_is_asked_again_after_its_time(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    busy = (503, {"Retry-After": "5"}, problem("unavailable"))
    store, received = serve(busy, busy, (200, {}, wire.dumps(42)))
    assert store.count(EventQuery()) == 42
    assert slept == [5, 5]
    assert len(received) == 3
    for late in ({"Retry-After": "900"}, {"Retry-After": "x"}, {}):
        store, received = serve((503, late, problem("unavailable")))
        with pytest.raises(DatabaseUnavailable, match="words"):
            store.count(EventQuery())
        assert len(received) == 1


def test_a_certificate_that_is_not_trusted_is_no_server_that_is_away(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise httpx.ConnectError(
            "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: self-signed (_ssl.c:1006)"
        )

    monkeypatch.setattr(httpx.Client, "send", refused)
    store, _ = serve((200, {}, wire.dumps(1)))
    with pytest.raises(ConfigurationError, match=r"no certificate that this machine trusts .*self-signed\); ask"):
        store.count(EventQuery())


def test_a_missing_price_book_is_its_error_from_afar() -> None:
    local = NoPriceBook()
    errors = [{"parameter": fault.parameter, "message": fault.message} for fault in local.faults]
    found = problem_error(json.loads(problem("query", errors=errors)), 400)
    assert (type(found), str(found)) == (NoPriceBook, str(local))


@pytest.mark.parametrize("errors", [["a"], 5, [{"x": 1}], [{"parameter": "p"}], {"p": "m"}, [None], "text"])
@pytest.mark.parametrize("kind", ["query", "forbidden", "too-long"])
def test_a_problem_with_other_errors_is_one_of_ours(errors: object, kind: str) -> None:
    found = problem_error(json.loads(problem(kind, errors=errors)), 400)
    assert isinstance(found, UsageExploreError)
    assert "words" in str(found)


def test_a_long_message_of_a_server_is_cut() -> None:
    long = "x" * 5_000_000
    for kind, more in (("timeout", {"detail": long}), ("query", {"errors": [{"parameter": long, "message": long}]})):
        assert len(str(problem_error(json.loads(problem(kind, **more)), 400))) < 10_000
    assert len(str(problem_error(json.loads(problem("internal", request_id=long)), 500))) < 1_000


@pytest.mark.parametrize("result", [5, None, "text", [], {"list": [5]}, {"dict": []}, {"dict": [["organizations", 5]]}])
def test_a_result_of_another_type_is_said_to_be_unreadable(serve: Serve, result: object) -> None:
    store, _ = serve((200, {}, json.dumps({"version": "1", "result": result}).encode()))
    period = Period(window="2026-10")
    for ask in (
        store.organizations,
        store.now,
        store.known,
        store.events,
        store.aggregate,
        store.leaderboards,
        lambda: store.pin(EventQuery()),
        lambda: store.validate(period),
        lambda: store.rate(period),
    ):
        with pytest.raises(ConfigurationError, match=r"cannot read the answer of the server's, 1 \("):
            ask()
    for items in (store.views, store.currencies, lambda: store.search_names("a"), lambda: store.search("a")):
        if not isinstance(result, list) and result != {"list": []}:
            with pytest.raises(ConfigurationError, match="cannot read the answer"):
                items()


@pytest.mark.parametrize(("status", "bound"), [(200, "MAX_RESULT_MEGABYTES"), (500, "MAX_PROBLEM_MEGABYTES")])
def test_a_compressed_answer_is_read_up_to_a_bound(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int, bound: str
) -> None:
    monkeypatch.setattr(client, bound, 2)
    body = gzip.compress(b'{"x": "' + b" " * 2**24 + b'"}')
    store, _ = serve((status, {"Content-Encoding": "gzip"}, body))
    asks: list[Callable[[], object]] = [lambda: store.count(EventQuery())]
    if status != 200:  # else the stream is read in parts
        asks.append(lambda: store.read(EventQuery()))
    for ask in asks:
        with pytest.raises(ConfigurationError, match=f"an answer of status {status} from there has more than 2 MB"):
            ask()
    small = wire.dumps(42)
    store, _ = serve((200, {"Content-Encoding": "gzip"}, gzip.compress(small)))
    assert store.count(EventQuery()) == 42


def test_a_job_that_a_restart_lost_is_no_operation_that_the_server_lacks(serve: Serve) -> None:
    job = wire.dumps({"id": "j1", "state": "queued", "progress": {}, "result": None, "problem": None})
    store, received = serve((202, {}, job), (404, {}, problem("not-found")))
    with pytest.raises(DatabaseUnavailable, match="The server has restarted and lost the job; ask again"):
        store.validate(Period(window="2026-10"))
    assert [path.rpartition("/")[2] for path, _ in received[1:]] == ["j1", "j1"]


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_server_that_restarts_behind_a_proxy_is_asked_again(
    serve: Serve, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(client, "time", SimpleNamespace(monotonic=time.monotonic, sleep=slept.append))
    away = (status, {"Content-Type": "text/html"}, b"<html>Bad Gateway</html>")
    store, received = serve(away, away, (200, {}, wire.dumps(42)))
    assert store.count(EventQuery()) == 42
    assert (len(received), len(slept)) == (3, 2)
    monkeypatch.setattr(client, "_AWAY_SECONDS", client.MAX_RETRY_SECONDS + 1)
    store, _ = serve(away)
    with pytest.raises(DatabaseUnavailable, match=f"The server is away .status {status}."):
        store.count(EventQuery())


def test_a_fault_of_a_proxy_is_one_of_the_server_not_of_the_address(serve: Serve) -> None:
    store, _ = serve((500, {}, b"<html>Internal Server Error</html>"))
    with pytest.raises(ServerError, match="status 500"):
        store.count(EventQuery())


def test_a_read_whose_connection_was_closed_is_sent_once_more(serve: Serve) -> None:
    closed = (200, {"Content-Length": "99", "Connection": "close"}, b"")  # the connection ends before the answer does
    store, received = serve(closed, (200, {}, wire.dumps(42)))
    assert store.count(EventQuery()) == 42
    assert len(received) == 2
    store, received = serve(closed)
    with pytest.raises(DatabaseUnavailable, match="does not answer"):
        store.count(EventQuery())
    assert len(received) == 2


def test_the_key_does_not_follow_a_redirect(serve: Serve) -> None:
    _, other = serve((200, {}, b"{}"))
    elsewhere, received = serve((200, {}, b"{}"))
    store, _ = serve((302, {"Location": f"{elsewhere.client.url}/api"}, b""))  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="no usage-explore server answers there"):
        store.count(EventQuery())
    assert received == other == []


@pytest.mark.parametrize(
    ("kind", "error", "said"),
    [
        ("not-exact", NotExact, "words"),
        ("timeout", StatementTimeout, "words"),
        ("mismatch", TableMismatch, "words"),
        ("forbidden", ScopeError, "words"),
        ("unauthorized", ConfigurationError, "this one is wrong or was revoked"),
        ("too-many", ConfigurationError, "key: words"),
        ("misdirected", ConfigurationError, "key: words"),
        ("not-found", ConfigurationError, "same version"),
        ("too-long", QueryError, "query: words"),
        ("internal", ServerError, "request r1"),
        ("of-the-future", ServerError, "request r1"),
    ],
)
def test_each_problem_is_its_error(kind: str, error: type[UsageExploreError], said: str) -> None:
    found = problem_error(json.loads(problem(kind)), 400)
    assert type(found) is error
    assert said in str(found)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b'{"version": "9"}',
        b'{"version": "9", "result": {"$": "Path", "x": 1}}',
        b'{"version": "9", "result": {"$": "__import__"}}',
        b'{"version": "9", "result": {"system": "ls"}}',
        b'{"version": "9", "result": {"$": "Hit", "nothing": 1}}',
        b'{"version": "9", "result": {"$": "AggregateQuery", "params": [["since", "x"]]}}',
    ],
)
def test_an_answer_of_another_kind_builds_nothing(serve: Serve, body: bytes) -> None:
    store, _ = serve((200, {}, body))
    with pytest.raises(UsageExploreError):
        store.count(EventQuery())


def test_a_stream_that_breaks_off_is_no_answer(serve: Serve, remote: Store) -> None:
    with remote.client.stream("/v1/usage-events/export", [], wire.ARROW) as chunks:  # type: ignore[attr-defined]
        whole = b"".join(chunks)
    for cut in (len(whole) // 2, len(whole) - 100, 100, 0):
        store, _ = serve((200, {"Content-Type": wire.ARROW}, whole[:cut]))
        with pytest.raises((DatabaseUnavailable, ConfigurationError)):
            store.read(EventQuery())
        store, _ = serve((200, {"Content-Length": str(len(whole)), "Connection": "close"}, whole[:cut]))
        with pytest.raises((DatabaseUnavailable, ConfigurationError)):
            store.read(EventQuery())


def test_silence_ends_after_the_timeout(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("usage_explore.remote.client.MARGIN_SECONDS", 0.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = connect(f"http://127.0.0.1:{silent.getsockname()[1]}", key=KEY, statement_timeout=0.2)
        with pytest.raises(DatabaseUnavailable, match=r"did not answer within 0\.2 s"):
            store.count(EventQuery())


def test_a_certificate_that_nobody_signed_is_refused(tmp_path_factory: pytest.TempPathFactory) -> None:
    client = Client("https://127.0.0.1:9", KEY)
    context = client._http._transport._pool._ssl_context  # type: ignore[attr-defined]
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname


@pytest.mark.parametrize("command", [["api"], ["load", "x.csv"], ["doctor"]])
def test_the_address_of_a_server_is_no_database(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("USAGE_EXPLORE_DATABASE_URL", "https://usage.example.com")
    monkeypatch.setenv("USAGE_EXPLORE_KEY", KEY)
    with pytest.raises(SystemExit):
        main(command)
    shown = capsys.readouterr()
    assert "this needs the PostgreSQL database itself" in shown.err
    assert KEY not in shown.err + shown.out + repr(config.settings())
