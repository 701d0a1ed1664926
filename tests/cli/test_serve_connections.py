"""Clients that send half a request, or too little too slowly, keep nobody else out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import http.client
import json
import logging
import resource
import socket
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnected
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect as open_websocket

from support.api_server import command
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import config
from usage_explore.access import logs
from usage_explore.cli import uvicorn_server
from usage_explore.cli.uvicorn_server import Connections, TimedConnection

FILES = 256
HALF = b"GET /api/healthz HTT"
WAITING = b"GET /wait HTTP/1.1\r\nHost: localhost\r\n\r\n"
HALF_BODY = b"PUT /wait HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n1"
WHOLE = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"

LINGERING = threading.Event()

Serve = Callable[[int], str]


async def _page(request: Request) -> Response:
    await request.body()
    return PlainTextResponse("x" * int(request.query_params.get("size", 1)))


async def _wait(request: Request) -> Response:
    while not await request.is_disconnected():
        await asyncio.sleep(0.01)
    return PlainTextResponse("")


async def _block(_: Request) -> Response:
    time.sleep(0.5)  # the event loop is to read nothing meanwhile
    return PlainTextResponse("")


async def _echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def _linger(websocket: WebSocket) -> None:
    """A session that goes on after its tab was closed, until `LINGERING` is clear."""
    await websocket.accept()
    while LINGERING.is_set():
        await asyncio.sleep(0.01)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """Start a server of at most so many connections, whose time limits are short; its address."""
    monkeypatch.setattr(logs, "to_standard_error", lambda: None)
    for name in ("HEADER_SECONDS", "BODY_SECONDS", "WRITE_SECONDS"):
        monkeypatch.setattr(uvicorn_server, name, 1.0)
    with contextlib.ExitStack() as ending:

        def start(most: int) -> str:
            paths = {"/": _page, "/wait": _wait, "/block": _block, "/api/healthz": _page, "/api/readyz": _wait}
            routes = [Route(path, endpoint, methods=["GET", "PUT"]) for path, endpoint in paths.items()]
            app = Starlette(routes=[*routes, WebSocketRoute("/echo", _echo), WebSocketRoute("/linger", _linger)])
            options: dict[str, Any] = {
                "http": TimedConnection,
                "log_config": None,
                "ws": uvicorn_server.WebSocketConnection,
                "timeout_graceful_shutdown": 1,
            }
            server = uvicorn_server._Server(uvicorn.Config(app, port=0, **options), Connections(most), bool)
            thread = threading.Thread(target=server.run)
            thread.start()

            def stop() -> None:
                server.should_exit = True
                thread.join(PATIENCE)

            ending.callback(stop)
            eventually(lambda: server.started)
            return f"127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"

        yield start


def _opened(address: str, sent: bytes = b"") -> socket.socket:
    host, _, port = address.rpartition(":")
    opened = socket.create_connection((host, int(port)), timeout=PATIENCE)
    opened.sendall(sent)
    return opened


def _is_closed(opened: socket.socket) -> bool:
    """Whether the server ends the connection, before the socket's patience is over."""
    try:
        while opened.recv(65_536):
            pass
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        HALF,
        b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        b"PUT / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf of it",
        b"PUT / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal",
        WHOLE + HALF,
    ],
)
def test_what_is_half_sent_is_closed(serve: Serve, sent: bytes) -> None:
    with _opened(serve(100), sent) as opened:
        assert _is_closed(opened)


@pytest.mark.parametrize("body", ["Content-Length: 10", "Transfer-Encoding: chunked"])
def test_a_websocket_with_a_body_is_refused_and_the_server_stops_in_order(serve: Serve, body: str) -> None:
    """It was kept without an answer, and the server's end was a traceback."""
    lines = (
        "GET /echo HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==",
        body,
    )
    with _opened(serve(100), "\r\n".join((*lines, "", "")).encode()) as opened:
        assert opened.recv(12) == b"HTTP/1.1 400"
        assert _is_closed(opened)


@pytest.mark.parametrize("path", ["/", "/api/healthz"])
def test_a_body_of_two_lengths_is_refused_and_what_follows_is_not_read(serve: Serve, path: str) -> None:
    """A proxy that believes the other length takes the rest for the start of the next request (RFC 9112, 6.1)."""
    two = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
    with _opened(serve(100), two.encode() + WHOLE) as opened:
        received = b"".join(iter(lambda: opened.recv(65_536), b""))
    assert received.startswith(b"HTTP/1.1 400")
    assert b"connection: close" in received.lower()
    assert received.count(b"HTTP/1.1") == 1


def test_a_byte_now_and_then_prolongs_nothing(serve: Serve) -> None:
    def closed() -> bool:
        time.sleep(0.1)
        try:
            opened.sendall(b"P")
        except (ConnectionResetError, BrokenPipeError):
            return True
        return False

    with _opened(serve(100), HALF) as opened:
        eventually(closed)


def test_who_takes_nothing_of_an_answer_is_closed(serve: Serve) -> None:
    with _opened(serve(100), b"GET /?size=30000000 HTTP/1.1\r\nHost: localhost\r\n\r\n") as opened:
        time.sleep(4)
        received = 0
        with contextlib.suppress(ConnectionResetError):
            while piece := opened.recv(1_000_000):
                received += len(piece)
        assert received < 30_000_000


def test_an_idle_connection_stays_for_the_next_request(serve: Serve) -> None:
    with _opened(serve(100)) as opened:
        for _ in range(3):
            opened.sendall(WHOLE)
            answer = http.client.HTTPResponse(opened)
            answer.begin()
            assert (answer.status, answer.read()) == (200, b"x")
            time.sleep(2.5)  # longer than what is half sent may take


def test_a_connection_accepted_while_the_server_stops_ends_with_its_answer(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = serve(9)
    monkeypatch.setattr(Connections, "closing", property(lambda _: True, lambda *_: None), raising=False)
    with _opened(address, WHOLE) as late:
        assert b"".join(iter(lambda: late.recv(4096), b"")).startswith(b"HTTP/1.1 200")


def test_at_the_limit_who_waited_longest_makes_room(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, began = serve(8), time.monotonic()
    monkeypatch.setattr(uvicorn_server, "HEADER_SECONDS", 600.0)  # none is closed for being late
    with contextlib.ExitStack() as holding, caplog.at_level(logging.WARNING, logger="usage_explore"):
        for _ in range(40):
            holding.enter_context(_opened(address, HALF))
            assert httpx.get(f"http://{address}/", timeout=PATIENCE).status_code == 200
        eventually(lambda: any("fields" in vars(record) for record in caplog.records))
    said = [vars(record)["fields"] for record in caplog.records if "fields" in vars(record)]
    assert len(said) <= 1 + (time.monotonic() - began) / uvicorn_server._LOG_INTERVAL_SECONDS, (
        "one line in ten seconds at most"
    )
    assert all(set(line["closed"]) == {"too many connections"} and line["limit"] == 8 for line in said)


@pytest.mark.parametrize("kinds", [[WAITING], [HALF_BODY], [WAITING.replace(b"wait", b"api/readyz"), WAITING]])
def test_healthz_is_answered_while_all_others_wait_for_the_server(serve: Serve, kinds: list[bytes]) -> None:
    """Each new connection was reset, so that a probe of liveness ended a server that was busy."""
    address = serve(16)
    with contextlib.ExitStack() as holding:
        for sent in kinds:
            opened = [holding.enter_context(_opened(address, sent)) for _ in range(16)]
            if sent is HALF_BODY:
                for one in opened:
                    one.sendall(b"2")
            for _ in range(5):
                assert httpx.get(f"http://{address}/api/healthz", timeout=PATIENCE).status_code == 200
        refused = httpx.get(f"http://{address}/", timeout=PATIENCE)
        assert refused.status_code == 503
        assert int(refused.headers["Retry-After"]) > 0
        assert "try again" in refused.json()["detail"]
        with pytest.raises(InvalidStatus, match="503"), open_websocket(f"ws://{address}/echo"):
            pass
    eventually(lambda: httpx.get(f"http://{address}/", timeout=PATIENCE).status_code == 200)


def test_a_request_that_the_server_had_no_time_to_read_is_not_closed_for_the_next(serve: Serve) -> None:
    address = serve(16)
    with contextlib.ExitStack() as holding:
        holding.enter_context(_opened(address, b"GET /block HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        sent = b"GET /api/healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
        opened = [holding.enter_context(_opened(address, sent)) for _ in range(20)]
        assert [one.recv(12) for one in opened] == [b"HTTP/1.1 200"] * 20


@pytest.mark.parametrize("files", [1_024, 2_048, 2_300, 65_536])
def test_connections_and_sessions_fit_into_the_files(files: int) -> None:
    """As many connections again while they arrive, the event loops of open and of closed sessions, and the rest."""
    limit = Connections(files=files).limit
    assert 2 * limit + 3 * (limit // 2 + 128) + 100 <= files
    assert limit == {1_024: 154, 2_048: 446, 2_300: 500, 65_536: 500}[files]


def test_a_server_opens_as_many_files_as_the_hard_limit_allows() -> None:
    script = """if True:
        import resource
        from usage_explore.cli import uvicorn_server
        for hard in (700, 256):
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, hard))
            print(uvicorn_server._raise_file_limit())
    """
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.split() == ["700", "256"]


def test_a_server_lets_its_event_loop_run_between_the_steps_of_large_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    for target, name in (
        (logs, "to_standard_error"),
        (uvicorn_server, "_raise_file_limit"),
        (uvicorn_server, "_return_free_memory"),
    ):
        monkeypatch.setattr(target, name, lambda: 1_024)
    monkeypatch.setattr(uvicorn_server._Server, "run", lambda _: None)
    try:
        gc.set_threshold(700)
        uvicorn_server.serve(Starlette(), "127.0.0.1", 0)
        assert sys.getswitchinterval() < interval
        assert gc.get_threshold()[0] > 700
    finally:
        sys.setswitchinterval(interval)
        gc.set_threshold(*thresholds)


def test_websockets_leave_half_of_the_connections_to_requests(serve: Serve) -> None:
    address = serve(8)
    with contextlib.ExitStack() as holding:
        tabs = [holding.enter_context(open_websocket(f"ws://{address}/echo")) for _ in range(4)]
        with pytest.raises(InvalidStatus, match="503"), open_websocket(f"ws://{address}/echo"):
            pass
        assert httpx.get(f"http://{address}/", timeout=PATIENCE).status_code == 200
        for tab in tabs:
            tab.send("still here")
            assert tab.recv(10) == "still here"
        tabs.pop().close()
        eventually(lambda: _opens(address))


def test_a_session_counts_until_it_ends_not_until_its_websocket_is_closed(serve: Serve) -> None:
    """Each has three open files: those of tabs that were closed at once used up the process's 1,024."""
    address = serve(8)
    LINGERING.set()
    try:
        for _ in range(4):
            with open_websocket(f"ws://{address}/linger"):
                pass
        eventually(lambda: httpx.get(f"http://{address}/", timeout=PATIENCE).status_code == 200)
        for _ in range(5):
            assert not _opens(address)
    finally:
        LINGERING.clear()
    eventually(lambda: _opens(address))


def _opens(address: str) -> bool:
    try:
        with open_websocket(f"ws://{address}/echo"):
            return True
    except InvalidStatus:
        return False


Api = Callable[..., contextlib.AbstractContextManager[str]]


@pytest.fixture
def api(tmp_path: Path) -> Api:
    """The command `api` in a process of few files, without a database; its address. It logs to the file `log`."""

    @contextlib.contextmanager
    def running(**settings: str) -> Iterator[str]:
        port = free_port()
        chosen = config.settings(database_url="postgresql://127.0.0.1:1/nowhere", home=tmp_path, **settings)
        with (tmp_path / "log").open("wb") as output:
            process = subprocess.Popen(
                command("api", port),
                env=chosen.environment(),
                stdout=output,
                stderr=output,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FILES, FILES)),
            )
        address = f"127.0.0.1:{port}"
        try:
            eventually(lambda: answers(f"http://{address}/api/healthz"))
            yield address
        finally:
            process.terminate()
            assert process.wait(PATIENCE) == 0

    return running


def _lines(log: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]


def test_healthz_is_answered_during_a_flood_of_half_sent_requests(api: Api, tmp_path: Path) -> None:
    with api() as address, contextlib.ExitStack() as holding:
        for _ in range(FILES + 20):
            holding.enter_context(_opened(address, HALF))
        for _ in range(5):
            assert answers(f"http://{address}/api/healthz")
            time.sleep(0.5)
    said = _lines(tmp_path / "log")
    assert not [line for line in said if line["logger"] == "asyncio"]
    assert 1 <= sum(line["event"] == "connections closed" for line in said) <= 10
    assert (tmp_path / "log").stat().st_size < 50_000


FORWARDED = {"X-Forwarded-For": "198.51.100.1, 192.0.2.9", "X-Request-ID": "forwarded"}


def _forwarded_client(log: Path) -> str:
    """The address in the log of the request with the headers `FORWARDED`."""
    (line,) = [line for line in _lines(log) if line.get("request_id") == "forwarded"]
    return str(line["client"])


def test_a_client_that_leaves_or_breaks_http_is_no_fault_of_the_server(api: Api, tmp_path: Path) -> None:
    """Bytes that are not HTTP after a request, or a disconnect while a body is sent: one log line each, status 499.

    And without trusted proxies no forwarded address is believed.
    """
    head = b"Host: localhost\r\nContent-Type: application/json\r\n"
    broken = b"GET /api/healthz HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"
    left = b"POST /api/v1/links HTTP/1.1\r\n" + head + b'Content-Length: 1000\r\n\r\n{"a":'
    with api() as address:
        for sent in (broken, left):
            for _ in range(5):
                with _opened(address, sent) as opened:
                    if sent is broken:
                        assert _is_closed(opened)
        httpx.get(f"http://{address}/api/healthz", headers=FORWARDED, timeout=PATIENCE)
        eventually(lambda: sum(line["event"] == "request" for line in _lines(tmp_path / "log")) >= 11)
    requests = [line for line in _lines(tmp_path / "log") if line["event"] == "request" and line["status"] != 200]
    assert [(line["status"], line["level"]) for line in requests] == [(499, "info")] * 10
    assert "Traceback" not in (tmp_path / "log").read_text()
    assert _forwarded_client(tmp_path / "log") == "127.0.0.1"


@pytest.mark.parametrize(("proxies", "client"), [("192.0.2.1", "127.0.0.1"), ("127.0.0.0/8", "192.0.2.9")])
def test_a_forwarded_address_is_believed_of_trusted_proxies_alone(
    api: Api, tmp_path: Path, proxies: str, client: str
) -> None:
    with api(trusted_proxies=proxies) as address:
        httpx.get(f"http://{address}/api/healthz", headers=FORWARDED, timeout=PATIENCE)
    assert _forwarded_client(tmp_path / "log") == client


def test_what_libraries_repeat_does_not_fill_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    handler, log = logging.StreamHandler(), logging.Logger("asyncio")
    handler.setFormatter(logs.JsonLines())
    handler.addFilter(few := logs.LibraryLimit())
    log.addHandler(handler)
    for _ in range(5_000):
        log.error("socket.accept() out of system resource")
    assert len(capsys.readouterr().err.splitlines()) == 100
    few._ends = 0  # ten seconds later
    log.error("again")
    assert json.loads(capsys.readouterr().err)["left_out"] == 4_900


@contextlib.contextmanager
def _logging() -> Iterator[None]:
    """The log of a server on stderr."""
    root, hook, ours = logging.getLogger(), sys.unraisablehook, logging.getLogger("usage_explore")
    handlers, levels = root.handlers[:], (root.level, ours.level)
    logs.to_standard_error()
    try:
        yield
    finally:
        root.handlers[:], sys.unraisablehook = handlers, hook
        for logger, level in zip((root, ours), levels, strict=True):
            logger.setLevel(level)
        logging.captureWarnings(False)


def _unraisable(error: Exception) -> Any:
    return types.SimpleNamespace(exc_type=type(error), exc_value=error, exc_traceback=None, err_msg=None, object=_page)


def test_too_many_open_files_are_lines_without_traces_of_a_bounded_number(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The log had 1.6 MB after 25 s: a trace for each, and those of finalizers passed its limit."""
    with _logging():
        for _ in range(500):
            try:
                raise OSError(errno.EMFILE, "Too many open files")
            except OSError as error:
                logging.getLogger("uvicorn.error").exception("Exception in ASGI application")
                sys.unraisablehook(_unraisable(error))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert len(lines) == 100
    assert all("Too many open files" in line["event"] and "trace" not in line for line in lines)
    assert {line["logger"] for line in lines} == {"uvicorn.error", "sys.unraisablehook"}


def test_a_finalizer_that_fails_is_one_line_with_its_trace(capsys: pytest.CaptureFixture[str]) -> None:
    with _logging():
        sys.unraisablehook(_unraisable(ValueError("odd")))
    line = json.loads(capsys.readouterr().err)
    assert line["event"].startswith("Exception ignored in: <function _page")
    assert "ValueError: odd" in line["trace"]


def test_a_sign_in_provider_that_does_not_answer_is_one_line_in_words(capsys: pytest.CaptureFixture[str]) -> None:
    handler, log = logging.StreamHandler(), logging.Logger("streamlit.web.server.starlette.starlette_auth_routes")
    handler.setFormatter(logs.JsonLines())
    handler.addFilter(logs.LibraryLimit())
    log.addHandler(handler)
    try:
        raise httpx.ConnectError("All connection attempts failed")
    except httpx.ConnectError:
        log.warning("Error during OAuth authorization redirect.", exc_info=True)
    line = json.loads(capsys.readouterr().err)
    assert line["event"] == "the sign-in provider did not answer: ConnectError: All connection attempts failed"
    assert "trace" not in line


def test_a_websocket_that_its_client_left_is_no_error_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    handler, log = logging.StreamHandler(), logging.Logger("uvicorn.error")
    handler.addFilter(logs.LibraryLimit())
    log.addHandler(handler)
    for error in (RuntimeError("another"), WebSocketDisconnected('Cannot call "send" once a close message was sent.')):
        try:
            raise error
        except RuntimeError:
            log.exception("Exception in ASGI application")
    written = capsys.readouterr().err
    assert "RuntimeError: another" in written
    assert "WebSocketDisconnected" not in written
