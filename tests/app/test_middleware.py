"""Before somebody signs in, nobody uploads; files, messages and origins are bounded; what no page needs is closed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.web.server.starlette.starlette_app_utils import create_signed_value
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from support.api_server import command
from support.ports import free_port
from support.thoroughness import further
from support.waiting import PATIENCE, eventually
from usage_explore import config
from usage_explore.app import middleware
from usage_explore.app.middleware import MAX_FILES, MAX_HELD, _is_wanted, _wanted_messages
from usage_explore.query.limits import MAX_UPLOAD_MEGABYTES

SECRET = "keeps the cookies " + "c" * 22
WHOLE = b"x" * (MAX_UPLOAD_MEGABYTES * 2**20 - 1_000)


class App:
    """An app where people sign in, without a database; what a browser would do, and how much memory it takes."""

    def __init__(self, port: int, process: subprocess.Popen[bytes], log: Path) -> None:
        self.host, self.process, self.log = f"127.0.0.1:{port}", process, log
        self.url = f"http://{self.host}"
        self.client = httpx.Client(base_url=self.url, timeout=PATIENCE)

    @contextlib.contextmanager
    def tab(
        self, email: str | None = None, origin: str | None = "", host: str | None = None
    ) -> Iterator[ClientConnection]:
        """An open page, of somebody who signed in where there is an e-mail address, under another name if given."""
        token = self.client.cookies["_streamlit_xsrf"]
        cookie = f"_streamlit_xsrf={token}"
        if email:
            user = f'{{"email": "{email}", "email_verified": true, "is_logged_in": true, "origin": "{self.url}"}}'
            cookie += f"; _streamlit_user={create_signed_value(SECRET, '_streamlit_user', user).decode()}"
        with connect(
            f"ws://{self.host if host is None else host}/_stcore/stream",
            sock=socket.create_connection(("127.0.0.1", int(self.host.rpartition(":")[2]))),
            origin=self.url if origin == "" else origin,
            subprotocols=["streamlit", token],
            additional_headers={"Cookie": cookie},
            max_size=None,
            proxy=None,
        ) as opened:
            yield opened

    def upload(self, session: str, name: str, content: bytes = b"a,b", **headers: str) -> int:
        """The status of an upload into the session."""
        token = {"X-Xsrftoken": self.client.cookies["_streamlit_xsrf"]}
        address = f"/_stcore/upload_file/{session}/{name}"
        return self.client.put(address, files={"file": ("a.csv", content)}, headers=token | headers).status_code

    @contextlib.contextmanager
    def slow_upload(self, session: str, name: str, length: int) -> Iterator[socket.socket]:
        """An upload of which only the beginning is sent; the client goes away at the end."""
        token = self.client.cookies["_streamlit_xsrf"]
        head = (
            f"PUT /_stcore/upload_file/{session}/{name} HTTP/1.1\r\nHost: {self.host}\r\nX-Xsrftoken: {token}\r\n"
            f"Cookie: _streamlit_xsrf={token}\r\nContent-Type: multipart/form-data; boundary=b\r\n"
            f"Content-Length: {length}\r\n\r\n--b\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(self.host.rpartition(":")[2])), timeout=PATIENCE) as opened:
            opened.sendall(head.encode())
            yield opened

    def memory(self) -> int:
        """Megabytes that the server holds."""
        lines = Path(f"/proc/{self.process.pid}/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1_000


def session_of(tab: ClientConnection) -> str:
    """The session of a page, which is drawn first."""
    ask = BackMsg()
    ask.rerun_script.query_string = ""
    tab.send(ask.SerializeToString())
    while True:
        message = ForwardMsg()
        message.ParseFromString(tab.recv(PATIENCE))
        if message.HasField("new_session"):
            return str(message.new_session.initialize.session_id)


@contextlib.contextmanager
def serving(folder: Path, port: int) -> Iterator[App]:
    """The app with what the folder configures."""
    url = f"http://127.0.0.1:{port}"
    settings = config.settings(database_url="postgresql://127.0.0.1:1/nowhere", home=folder, app_url=url)
    environment = {**settings.environment(), "HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    with (folder / "log").open("wb") as output:
        process = subprocess.Popen(command("app", port), env=environment, stdout=output, stderr=output, cwd=folder)
    made = App(port, process, folder / "log")

    def answers() -> bool:
        try:
            return made.client.get("/_stcore/health").status_code == 200
        except httpx.HTTPError:
            return False

    try:
        eventually(lambda: answers() or process.poll() is not None)
        yield made
    finally:
        made.client.close()
        process.terminate()
        assert process.wait(PATIENCE) == 0


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    folder = tmp_path_factory.mktemp("guarded")
    port = free_port()
    (folder / "people.toml").write_text(
        '["ana@example.com"]\norganizations = "all"\n["bob@example.com"]\norganizations = "all"\n'
    )
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\ncookie_secret = "{SECRET}"\n'
        'client_id = "a"\nclient_secret = "b"\nserver_metadata_url = "http://127.0.0.1:1/nowhere"\n'
    )
    with serving(folder, port) as made:
        yield made


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """An app for the one person on this machine."""
    with serving(tmp_path_factory.mktemp("alone"), free_port()) as made:
        yield made


def test_who_is_not_signed_in_uploads_nothing(app: App) -> None:
    before = app.memory()
    with app.tab() as stranger, app.tab("eve@example.com") as eve:
        for tab in (stranger, eve):
            session = session_of(tab)
            assert {app.upload(session, f"f{number}", WHOLE) for number in range(5)} == {403}
    assert app.upload("no-session", "f") == 403
    assert app.memory() < before + 60


def test_who_signed_in_uploads_a_bounded_number_of_bounded_files(app: App) -> None:
    with app.tab("ana@example.com") as tab:
        session = session_of(tab)
        assert app.upload(session, "f0", WHOLE) == 204
        assert app.upload(session, "large", WHOLE + b"x" * 2_000) == 413
        for number in range(1, MAX_FILES):
            assert app.upload(session, f"f{number}") == 204
        assert app.upload(session, "one more") == 429
        token = {"X-Xsrftoken": app.client.cookies["_streamlit_xsrf"]}
        assert app.client.delete(f"/_stcore/upload_file/{session}/f1", headers=token).status_code == 204
        assert app.upload(session, "one more") == 204


def test_all_sessions_together_hold_a_bounded_number_of_bytes(app: App) -> None:
    before = app.memory()
    with contextlib.ExitStack() as holding:
        tabs = [holding.enter_context(app.tab("ana@example.com")) for _ in range(3)]
        sessions = [session_of(tab) for tab in tabs]
        statuses = [app.upload(session, f"f{number}", WHOLE) for session in sessions for number in range(5)]
        assert set(statuses) == {204, 503}
        assert statuses.index(503) == MAX_HELD // len(WHOLE)
        assert app.memory() < before + 400
        tabs[0].close()
        eventually(lambda: app.upload(sessions[2], "f9", WHOLE) == 204)  # in the place of what the closed page held


def test_slow_uploads_of_one_session_leave_turns_to_others(app: App) -> None:
    with app.tab("ana@example.com") as slow, app.tab("ana@example.com") as other, contextlib.ExitStack() as holding:
        session = session_of(slow)
        for number in range(4):
            holding.enter_context(app.slow_upload(session, f"s{number}", 1_000))
        assert app.upload(session_of(other), "f") == 204
        assert app.upload(session, "fifth") == 503


def test_slow_uploads_of_one_user_leave_turns_to_others(app: App) -> None:
    with contextlib.ExitStack() as holding:
        tabs = [holding.enter_context(app.tab("ana@example.com")) for _ in range(3)]
        sessions = [session_of(tab) for tab in tabs]
        for number in range(4):
            holding.enter_context(app.slow_upload(sessions[number % 2], f"u{number}", 1_000))
        bob = session_of(holding.enter_context(app.tab("bob@example.com")))
        assert app.upload(bob, "f") == 204
        assert app.upload(sessions[2], "fifth") == 503


def test_files_that_are_being_read_count(app: App) -> None:
    with app.tab("ana@example.com") as first, app.tab("ana@example.com") as second:
        one, two = session_of(first), session_of(second)
        eventually(lambda: app.upload(two, "f", WHOLE) == 204)  # the files of closed pages are forgotten
        for number in range(MAX_FILES - 1):
            assert app.upload(one, f"f{number}") == 204
        lines = app.log.read_text().count("the client went away")
        with app.slow_upload(one, "slow", 1_000):
            eventually(lambda: app.upload(one, "f0") == 429)
        eventually(lambda: app.log.read_text().count("the client went away") > lines)
        assert app.upload(one, "last") == 204
        for number in range(8):
            assert app.upload(two, f"w{number}", WHOLE) == 204
        with app.slow_upload(two, "slow", len(WHOLE)), app.tab("ana@example.com") as third:
            eventually(lambda: app.upload(session_of(third), "f", WHOLE) == 503)
        eventually(lambda: app.upload(two, "w8", WHOLE) == 204)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8501", "127.0.0.1.evil.example"])
def test_a_name_made_to_lead_here_gets_nothing(alone: App, host: str) -> None:
    for path in ("/", "/events", "/_stcore/health", "/api", "/media/x"):
        assert alone.client.get(path, headers={"Host": host}).status_code == 421, path
    assert alone.client.get("/api/healthz", headers={"Host": host}).status_code == 200, "the API decides itself"
    with alone.tab() as tab:
        session = session_of(tab)
        assert alone.upload(session, "f", Host=host) == 421
        assert alone.upload(session, "f") == 204
    with pytest.raises(InvalidStatus, match="421"), alone.tab(origin=f"http://{host}", host=host):
        pass


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8501", "[::1]:8501"])
def test_this_machines_own_names_are_answered(alone: App, host: str) -> None:
    assert alone.client.get("/", headers={"Host": host}).status_code == 200
    with alone.tab(origin=f"http://{host.lower()}", host=host) as tab:
        assert session_of(tab)


@pytest.mark.parametrize("host", ["[::1", "", "x]", "localhost.", "localhost:8931:1"])
def test_what_is_no_own_name_is_turned_away(alone: App, host: str) -> None:
    assert alone.client.get("/", headers={"Host": host}).status_code == 421


def test_where_people_sign_in_any_name_is_answered(app: App) -> None:
    assert app.client.get("/", headers={"Host": "usage.example"}).status_code == 200


def test_a_page_sends_bounded_messages(app: App) -> None:
    ask = BackMsg()
    ask.rerun_script.query_string = ""
    ask.rerun_script.widget_states.widgets.add(id="x").string_value = "y" * 600_000
    with app.tab() as tab:
        with contextlib.suppress(ConnectionClosed):
            tab.send(ask.SerializeToString())
        with pytest.raises(ConnectionClosed):
            list(iter(tab.recv, None))


def test_text_ends_a_websocket_without_a_traceback(app: App) -> None:
    with app.tab() as tab:
        session_of(tab)
        tab.send("text")
        with pytest.raises(ConnectionClosed) as closed:
            list(iter(tab.recv, None))
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1003
    assert app.client.get("/_stcore/health").status_code == 200
    assert "Traceback" not in app.log.read_text()


def test_what_is_no_message_ends_a_websocket_without_a_traceback(app: App) -> None:
    with app.tab() as tab:
        session_of(tab)
        tab.send(b"\xff\xff no message")
        with pytest.raises(ConnectionClosed) as closed:
            list(iter(tab.recv, None))
    assert closed.value.rcvd
    assert closed.value.rcvd.code == 1002
    assert "Traceback" not in app.log.read_text()


def answers_to(tab: ClientConnection, asked: BackMsg) -> list[str]:
    """The kinds of what is answered to a message."""
    tab.send(asked.SerializeToString())
    tab.send(BackMsg(app_heartbeat=True).SerializeToString())
    kinds = list[str]()
    while "heartbeat_ack" not in kinds:
        message = ForwardMsg()
        message.ParseFromString(tab.recv(PATIENCE))
        kinds.append(str(message.WhichOneof("type")))
    return kinds


@pytest.mark.parametrize(
    ("email", "names", "is_answered"), [("ana@example.com", 3, True), ("ana@example.com", 101, False), (None, 1, False)]
)
def test_who_may_upload_nothing_learns_no_addresses_of_files(
    app: App, email: str | None, names: int, is_answered: bool
) -> None:
    """An answer is a hundred times as long as the names in the question: 0.5 MB of them held up the server."""
    with app.tab(email) as tab:
        asked = BackMsg()
        asked.file_urls_request.session_id = session_of(tab)
        asked.file_urls_request.file_names.extend([""] * names)
        assert ("file_urls_response" in answers_to(tab, asked)) == is_answered


@pytest.mark.parametrize(
    ("operation", "session", "is_wanted"),
    [
        ({"deferred_file": {"file_id": "f"}}, "with access", True),
        ({"deferred_file": {"file_id": "f"}}, "without", False),
        ({"install_skills": {}}, "with access", False),
        ({}, "with access", False),
    ],
)
def test_of_operations_only_downloads_are_wanted_of_who_has_access(
    monkeypatch: pytest.MonkeyPatch, operation: dict[str, Any], session: str, is_wanted: bool
) -> None:
    """Streamlit also writes instructions for agents into its user's home."""
    monkeypatch.setattr(middleware, "_has_files", lambda session_id: session_id == "with access")
    sent = BackMsg(backend_operation_request={"session_id": session, "request_id": "r", **operation})
    assert _is_wanted(sent) == is_wanted


@pytest.mark.parametrize(
    "name",
    ["clear_cache", "set_run_on_save", "load_git_info", "debug_shutdown_runtime", "debug_disconnect_websocket"],
)
def test_no_page_clears_the_caches_of_others(name: str) -> None:
    """What Streamlit would do for its developer, whoever asks, is left out; the next message is read."""
    unwanted, wanted = BackMsg(**{name: True}), BackMsg(stop_script=True)
    sent = iter([{"type": "websocket.receive", "bytes": each.SerializeToString()} for each in (unwanted, wanted)])

    async def receive() -> Message:
        return next(sent)

    async def send(message: Message) -> None:
        raise AssertionError(message)

    read = asyncio.run(_wanted_messages(receive, send)())
    assert BackMsg.FromString(read["bytes"]) == wanted


def test_a_flood_of_messages_before_sign_in_takes_turns(app: App) -> None:
    """One tab that asked for its page without a pause kept the server from everybody, who had signed in or not."""
    ask = BackMsg()
    ask.rerun_script.query_string = ""
    asking, stop = ask.SerializeToString(), threading.Event()

    def read(tab: ClientConnection) -> None:
        with contextlib.suppress(ConnectionClosed):
            for _ in tab:
                pass

    def flood() -> None:
        with app.tab() as tab, contextlib.suppress(ConnectionClosed):
            reading = threading.Thread(target=read, args=(tab,))
            reading.start()
            while not stop.is_set():
                tab.send(asking)
        reading.join(PATIENCE)

    floods = [threading.Thread(target=flood, daemon=True) for _ in range(4)]
    for each in floods:
        each.start()
    try:
        with app.tab("ana@example.com") as tab:
            session_of(tab)
            for _ in (1, 2, *further(3, 4, 5)):
                assert "heartbeat_ack" in answers_to(tab, BackMsg(stop_script=True))
                assert app.client.get("/_stcore/health").status_code == 200
    finally:
        stop.set()
        for each in floods:
            each.join(PATIENCE)


def test_the_tabs_of_a_user_take_turns_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Six tabs of one user, each at the rate of a tab, kept the others waiting."""
    rates: list[Rate] = []

    class Rate:
        def __init__(self, *bound: int) -> None:
            self.bound, self.turns = bound, 0
            rates.append(self)

        async def turn(self) -> None:
            self.turns += 1
            await asyncio.sleep(0)

    async def receive() -> Message:
        return {"type": "websocket.receive", "bytes": BackMsg(stop_script=True).SerializeToString()}

    async def page(_: Scope, receive: Receive, __: Send) -> None:
        for _ in range(5):
            await receive()

    async def send(_: Message) -> None:
        raise AssertionError

    async def tabs() -> None:
        guard = middleware.Guard(page)
        scopes = [{"type": "websocket", "path": "/_stcore/stream", "headers": [(b"user", user)]} for user in users]
        await asyncio.gather(*(guard(scope, receive, send) for scope in scopes))

    users = (b"ana", b"ana", b"ben")
    monkeypatch.setattr(middleware, "MessageRate", Rate)
    monkeypatch.setattr(middleware, "_with_access", lambda scope: dict(scope["headers"])[b"user"])
    monkeypatch.setattr(middleware.sign_in, "may_connect", lambda _: True)
    asyncio.run(tabs())
    turns = [
        sorted(rate.turns for rate in rates if rate.turns and rate.bound == bound)
        for bound in (middleware._TAB_MESSAGES, middleware._USER_MESSAGES)
    ]
    assert turns == [[5, 5, 5], [5, 10]]


@pytest.mark.parametrize(
    "origin", ["http://localhost:1", "http://127.0.0.1", "http://0.0.0.0:80", "https://evil.example", "null", "x"]
)
def test_a_page_of_another_origin_opens_no_websocket(app: App, origin: str) -> None:
    with pytest.raises(InvalidStatus, match="403"), app.tab(origin=origin):
        pass


def test_who_is_no_browser_names_no_origin(app: App) -> None:
    with app.tab(origin=None) as tab:
        assert session_of(tab)


@pytest.mark.parametrize("path", ["/", "/events", "/validate", "/_stcore/health", "/nothing/here"])
def test_other_sites_frame_no_page(app: App, path: str) -> None:
    headers = app.client.get(path).headers
    assert headers["Content-Security-Policy"] == "frame-ancestors 'self'"
    assert headers["X-Frame-Options"] == "SAMEORIGIN"


@pytest.mark.parametrize("path", ["metrics", "metrics?families=active_sessions", "agent/openapi.json", "agent/mcp"])
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_streamlits_metrics_and_agent_api_are_closed(app: App, method: str, path: str) -> None:
    answer = app.client.request(method, f"/_stcore/{path}")
    assert (answer.status_code, answer.text) == (404, "Not found\n")


def test_caches_keep_nothing_that_was_prepared(app: App) -> None:
    assert app.client.get("/media/anything").headers["Cache-Control"] == "private, no-store"
