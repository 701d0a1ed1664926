"""`validate --notify`: one message of a run, delivered with bounded patience, and no secret of its address anywhere."""

from __future__ import annotations

import base64
import contextlib
import json
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from support import generated_events
from support.generated_events import ORGANIZATION
from support.known_findings import check, finding
from support.plain_events import SINCE, event
from support.ports import free_port
from support.waiting import PATIENCE
from usage_explore.cli import notify
from usage_explore.cli.main import main
from usage_explore.cli.validate import FOUND, NOT_NOTIFIED
from usage_explore.db import ddl
from usage_explore.errors import (
    ConfigurationError,
    DatabaseUnavailable,
    Fault,
    NotExact,
    QueryError,
    StatementTimeout,
)
from usage_explore.query.queries import Period

SECRETS = ("t0ken", "s3cret", "pa55word", "ann")
PATH = "/hooks/t0ken?key=s3cret"
WINDOW = ("--since", "2026-09-01T00:00:00Z", "--until", "2026-10-01T00:00:00Z")

Run = Callable[..., Result]


class Receiver:
    """A webhook on 127.0.0.1 that answers with one status after another, the last one again and again."""

    def __init__(self) -> None:
        self.statuses: list[int] = [200]
        self.headers: dict[str, str] = {}
        self.drip = False
        self.received: list[tuple[str, dict[str, str], dict[str, Any], float]] = []
        self.ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                statuses, number = receiver.statuses, len(receiver.received)
                receiver.received.append((self.path, dict(self.headers), body, time.monotonic()))
                if receiver.drip:
                    with contextlib.suppress(OSError):
                        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
                        while not receiver.ended.wait(0.02):
                            self.wfile.write(b"x")
                            self.wfile.flush()
                    return
                self.send_response(statuses[min(number, len(statuses) - 1)])
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "1000000000")  # of which nothing comes
                self.end_headers()
                receiver.ended.wait(PATIENCE)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://ann:pa55word@127.0.0.1:{self.port}{PATH}"

    def close(self) -> None:
        self.ended.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join(PATIENCE)


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr(notify, "PAUSES_SECONDS", (0.01, 0.02, 0.03))
    opened = Receiver()
    yield opened
    opened.close()


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Period]:
    """Registers a check with one finding of each of two severities; the periods it saw."""
    periods: list[Period] = []
    own = check("own", finding("medium"), finding("low"))

    def examine(examination: object) -> object:
        periods.append(examination.period)  # type: ignore[attr-defined]
        return own.examine(examination)  # type: ignore[arg-type]

    monkeypatch.setattr("usage_explore.validation.registry.CHECKS", {"own": replace(own, examine=examine)})
    return periods


@pytest.fixture
def run(
    events_database_url: str,
    events_connection: ddl.Connection,
    seen: list[Period],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
) -> Run:
    """Run the command; whatever it says and logs, it shows no secret."""
    generated_events.insert(events_connection, [event(SINCE), event(SINCE)])
    events_connection.commit()
    caplog.set_level(logging.DEBUG)

    def run(*arguments: str, **environment: str) -> Result:
        options = ["--database-url", events_database_url, "--organization-id", str(ORGANIZATION)]
        options += ["--home", str(tmp_path / "home")]
        result = CliRunner().invoke(main, ["validate", *options, *WINDOW, *arguments], env=environment)
        said = result.output + caplog.text + repr(result.exception)
        assert not [secret for secret in SECRETS if secret in said]
        assert "Traceback" not in said
        return result

    return run


def test_the_message_says_what_the_run_says(run: Run, receiver: Receiver, tmp_path: Path) -> None:
    result = run("--notify", receiver.url, "--json", str(tmp_path / "run.json"))
    assert (result.exit_code, len(receiver.received)) == (0, 1)
    assert result.stderr.endswith(f"Notified http://127.0.0.1:{receiver.port}/….\n")
    path, headers, message, _ = receiver.received[0]
    assert path == PATH
    assert headers["Content-Type"] == "application/json"
    assert base64.b64decode(headers["Authorization"].removeprefix("Basic ")) == b"ann:pa55word"
    document = json.loads((tmp_path / "run.json").read_text())
    for name in ("organization_id", "organization_name", "period", "since", "until", "timezone", "as_of"):
        assert message[name] == document[name]
    assert message["findings_by_severity"] == document["findings_by_severity"] == {"high": 0, "medium": 1, "low": 1}
    assert message["open_by_severity"] == {"high": 0, "medium": 1, "low": 1}
    assert message["findings_by_state"] == document["review"]["findings_by_state"]
    assert message["findings_by_state"]["new"] == 2
    assert message["events"] == document["totals"]["events"] == 2
    assert message["headline"] == "2 findings: 1 medium, 1 low"
    assert message["text"].startswith(f"{ORGANIZATION}, 1–30 Sep 2026: 2 findings: 1 medium, 1 low. First run")
    assert (message["event"], message["result"], message["url"]) == ("validation", "passed", None)
    assert all(row["sentence"] not in json.dumps(message) for row in document["findings"])


def test_a_name_makes_no_link_and_calls_nobody_in_a_chat(
    run: Run, receiver: Receiver, events_connection: ddl.Connection
) -> None:
    name = "<!here> <http://x.y|Pay> [Pay](http://x.y) @all & Co"
    events_connection.execute(
        "INSERT INTO usage_names (organization_id, kind, id, name) VALUES (%s, 'organization', %s, %s)",
        (ORGANIZATION, ORGANIZATION, name),
    )
    events_connection.commit()
    assert run("--notify", receiver.url).exit_code == 0
    message = receiver.received[0][2]
    shown = "‹!here› ‹http://x.y|Pay› ［Pay］(http://x.y) ＠all & Co"
    assert message["text"].startswith(f"{shown}, 1–30 Sep 2026: 2 findings")
    assert message["organization_name"] == name


def test_the_link_is_there_where_the_app_has_an_address(run: Run, receiver: Receiver) -> None:
    assert run("--notify", receiver.url, USAGE_EXPLORE_APP_URL="https://usage.example.com").exit_code == 0
    message = receiver.received[0][2]
    assert message["url"].startswith("https://usage.example.com/validate?")
    assert message["text"].endswith(message["url"])
    assert "as_of=" in message["url"]


def test_the_address_may_be_in_the_environment(run: Run, receiver: Receiver) -> None:
    assert run(USAGE_EXPLORE_NOTIFY_URL=receiver.url).exit_code == 0
    assert len(receiver.received) == 1


def test_a_busy_webhook_is_tried_again_with_the_same_message(run: Run, receiver: Receiver) -> None:
    receiver.statuses = [503, 429, 500, 204]
    assert run("--notify", receiver.url).exit_code == 0
    assert len({json.dumps(message) for _, _, message, _ in receiver.received}) == 1
    assert len(receiver.received) == 4


def test_retry_after_is_waited_for(run: Run, receiver: Receiver) -> None:
    receiver.statuses, receiver.headers = [429, 200], {"Retry-After": "1"}
    assert run("--notify", receiver.url).exit_code == 0
    first, second = (at for *_, at in receiver.received)
    assert second - first >= 1


@pytest.mark.parametrize(
    ("statuses", "attempts", "reason"),
    [
        ([503], 4, "status 503"),
        ([400], 1, "status 400"),
        ([404], 1, "status 404"),
        ([302, 200], 1, "it redirects (status 302)"),
        ([307, 200], 1, "it redirects (status 307)"),
    ],
)
def test_a_message_that_is_not_accepted_never_hides_the_result(
    run: Run, receiver: Receiver, statuses: list[int], attempts: int, reason: str
) -> None:
    receiver.statuses, receiver.headers = statuses, {"Location": f"http://127.0.0.1:{receiver.port}/other"}
    result = run("--notify", receiver.url)
    assert result.exit_code == NOT_NOTIFIED
    assert f"not delivered to http://127.0.0.1:{receiver.port}/…: it" in result.stderr
    assert reason in result.stderr
    assert "2 findings: 1 medium, 1 low" in result.stdout
    assert len(receiver.received) == attempts
    assert run("--notify", receiver.url, "--fail-on", "medium").exit_code == FOUND
    assert receiver.received[-1][2]["result"] == "findings"


def test_a_run_that_is_incomplete_stays_so(run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    def examine(_: object) -> object:
        raise NotExact("no numbers")

    monkeypatch.setattr(
        "usage_explore.validation.registry.CHECKS", {"failing": replace(check("failing"), examine=examine)}
    )
    receiver.statuses = [200, 400]
    for _ in range(2):
        assert run("--notify", receiver.url).exit_code == 1
    assert receiver.received[0][2]["result"] == "incomplete"
    assert receiver.received[0][2]["failed_checks"] == ["failing"]


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (KeyboardInterrupt(), 130, "it was interrupted"),
        (StatementTimeout("took long on /secret"), 1, "a statement took longer than the statement timeout"),
        (DatabaseUnavailable("10.0.0.7 is away"), 1, "the database did not answer"),
        (
            QueryError([Fault("since", "is not a time: secret")]),
            2,
            "the period or a file that was given cannot be used",
        ),
        (ZeroDivisionError("secret"), 1, "an unexpected error"),
    ],
)
@pytest.mark.parametrize("status", [200, 400])
def test_a_run_that_fails_says_so_and_keeps_its_exit_code(
    run: Run,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    code: int,
    reason: str,
    status: int,
) -> None:
    def validate(*_: object, **__: object) -> object:
        raise error

    monkeypatch.setattr("usage_explore.store.Store.validate", validate)
    receiver.statuses = [status]
    without, result = run(), run("--notify", receiver.url)
    assert result.exit_code == without.exit_code == code
    ((_, _, message, _),) = receiver.received
    assert (message["result"], message["headline"]) == ("failed", f"The validation failed: {reason}")
    assert message["text"] == f"{ORGANIZATION}, 1–30 Sep 2026: The validation failed: {reason}."
    assert "secret" not in json.dumps(message)
    assert (message["events"], message["findings_by_severity"], message["url"]) == (None, None, None)
    assert ("not delivered" in result.stderr) == (status == 400)


def test_a_run_that_is_stopped_waits_for_a_slow_webhook_a_bounded_time(
    run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def validate(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("usage_explore.store.Store.validate", validate)
    monkeypatch.setattr(notify, "MAX_FAILURE_SECONDS", 0.5)
    receiver.drip = True
    result = run("--notify", receiver.url)
    assert result.exit_code == 130
    assert "it did not accept it within 0.5 s" in result.stderr


def test_a_sign_off_whose_report_fails_is_kept_and_said(
    run: Run, receiver: Receiver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setattr("usage_explore.validation.report.html", interrupted)
    report = tmp_path / "report.html"
    result = run("--notify", receiver.url, "--sign-off", "--by", "ana", "--report", str(report))
    assert result.exit_code == 130
    assert "Signed off by ana: this is kept, only its report was not written.\n" in result.stderr
    assert not report.exists()
    ((_, _, message, _),) = receiver.received
    assert (message["result"], message["signed_off"]) == ("failed", True)
    assert message["headline"] == "The period is signed off, but its report was not written: it was interrupted"


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C has an effect, also where the tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("hidden", [None, RuntimeError("Query interrupted"), NotExact("swallowed")])
def test_a_signal_ends_the_run_with_a_message(
    run: Run,
    receiver: Receiver,
    monkeypatch: pytest.MonkeyPatch,
    ctrl_c: None,
    number: signal.Signals,
    hidden: Exception | None,
) -> None:
    """Whatever a library makes of the exception in the signal's handler: an error, or a check that failed."""

    def examine(_: object) -> object:
        try:
            os.kill(os.getpid(), number)
            time.sleep(PATIENCE)
        except KeyboardInterrupt:
            raise hidden or KeyboardInterrupt from None
        raise AssertionError

    monkeypatch.setattr("usage_explore.validation.registry.CHECKS", {"own": replace(check("own"), examine=examine)})
    result = run("--notify", receiver.url)
    assert result.exit_code == 128 + number
    assert result.stderr.endswith("Interrupted.\n")
    ((_, _, message, _),) = receiver.received
    assert message["headline"] == "The validation failed: it was interrupted"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("where", ["before", "meanwhile"])
def test_a_signal_after_the_report_is_a_line(
    run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, ctrl_c: None, number: signal.Signals, where: str
) -> None:
    """The result stands; the notification was not delivered."""

    def interrupt(*_: object, **__: object) -> dict[str, object]:
        os.kill(os.getpid(), number)
        return {}

    if where == "before":
        monkeypatch.setattr("usage_explore.validation.report.notification.notification", interrupt)
    else:
        monkeypatch.setattr(notify, "_attempt", interrupt)
    result = run("--notify", receiver.url)
    assert (result.exit_code, receiver.received) == (NOT_NOTIFIED, [])
    assert "2 findings: 1 medium, 1 low" in result.stdout
    assert f"not delivered to http://127.0.0.1:{receiver.port}/…: it was interrupted" in result.stderr
    assert run("--notify", receiver.url, "--fail-on", "medium").exit_code == FOUND


def test_nobody_listens(run: Run, receiver: Receiver) -> None:
    result = run("--notify", f"http://ann:pa55word@127.0.0.1:{free_port()}{PATH}")
    assert result.exit_code == NOT_NOTIFIED
    assert "ConnectError" in result.stderr


@pytest.mark.parametrize(("attempt", "overall"), [(1, 60), (60, 5)])
def test_a_webhook_that_answers_slowly_ends_in_bounded_time(
    run: Run, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, attempt: float, overall: float
) -> None:
    """A byte now and then keeps no time limit of HTTPX from starting anew."""
    monkeypatch.setattr(notify, "MAX_ATTEMPT_SECONDS", attempt)
    monkeypatch.setattr(notify, "MAX_SECONDS", overall)
    receiver.drip = True
    result = run("--notify", receiver.url)
    assert result.exit_code == NOT_NOTIFIED
    assert "did not" in result.stderr
    assert len(receiver.received) == (4 if attempt == 1 else 1)


def test_a_proxy_is_not_sent_what_is_for_this_machine(run: Run, receiver: Receiver) -> None:
    proxy = Receiver()
    try:
        address = f"http://127.0.0.1:{proxy.port}"
        assert run("--notify", receiver.url, HTTP_PROXY=address, http_proxy=address, NO_PROXY="").exit_code == 0
    finally:
        proxy.close()
    assert (len(receiver.received), len(proxy.received)) == (1, 0)


@pytest.mark.parametrize(
    "address",
    [
        f"http://hooks.example.com{PATH}",
        f"http://127.0.0.1@hooks.example.com{PATH}",
        f"http://localhost.example.com{PATH}",
        f"http://ann:pa55word@10.0.0.1{PATH}",
        f"ftp://ann:pa55word@127.0.0.1{PATH}",
        f"https://ann:pa55word@host:port{PATH}",
        f"https://{PATH}",
        PATH,
        f"file://{PATH}",
        f"https://[::1{PATH}",
        f"https://ann:pa55word@host:99999{PATH}",
        f"https://a b{PATH}",
    ],
)
def test_an_address_that_will_not_do_ends_before_the_run(run: Run, seen: list[Period], address: str) -> None:
    result = run("--notify", address)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: --notify: ")
    assert seen == []


def test_http_to_other_machines_is_an_option() -> None:
    address = f"http://hooks.example.com{PATH}"
    with pytest.raises(ConfigurationError, match="--notify-http"):
        notify.webhook(address)
    for given in (notify.webhook(address, any_http=True), notify.webhook(f"https://ann:pa55word@h:8443{PATH}")):
        assert not [secret for secret in SECRETS if secret in f"{given} {given!r}"]
    for own in ("127.0.0.1", "localhost", "[::1]", "127.9.9.9"):
        assert str(notify.webhook(f"http://{own}:80/x")) in (f"http://{own}/…", f"http://{own}:80/…")
