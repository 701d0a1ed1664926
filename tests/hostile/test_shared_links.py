"""Short links attacked: what a client that only has a link reaches on a server where people sign in."""

from __future__ import annotations

import json
import re
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from html import unescape
from itertools import count
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from websockets.sync.client import connect as websocket

from support import generated_events
from support.api_server import command
from support.generated_events import NEIGHBOUR, ORGANIZATION
from support.hostile_values import WORST
from support.plain_events import beside, event
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import AggregateQuery, EventQuery, QueryError, Store, config, connect, formatting
from usage_explore.db import ddl
from usage_explore.records.links import SharedLink

SECRET_MODEL, SHOWN_MODEL, METRIC = "secret-model-7731", "shown-model", "metric-7731"
"""Values of the organization's events: the link's query excludes the first."""

NOW = datetime.now(UTC).replace(microsecond=0)
SHOWN = AggregateQuery(group_by="dim:model", since="-29d/d", dimensions={"model": SHOWN_MODEL})
PROXIED = {"trusted_proxies": "127.0.0.1"}
OTHER_QUESTIONS = [
    f"organization_id={NEIGHBOUR}",
    f"organization_id={ORGANIZATION}&group_by=dim:model",
    "group_by=dim:model&since=-29d/d",
    "link=x",
    "as_of=2100-01-01T00:00:00Z",
    "%00&&&=;",
]

_numbers = count()


@dataclass(frozen=True)
class Server:
    """An app where people sign in, and a store on its database; `said` is its log."""

    url: str
    store: Store
    log: Path

    def get(self, path: str, **options: object) -> httpx.Response:
        # behind a proxy, each request from another address: the limit of one client has a test of its own
        sender = {"X-Forwarded-For": f"192.0.2.{next(_numbers) % 250}"}
        options["headers"] = {**sender, **options.get("headers", {})}  # type: ignore[dict-item]
        with httpx.Client(base_url=self.url, timeout=PATIENCE) as client:
            return client.get(path, **options)  # type: ignore[arg-type]

    def raw(self, target: str, method: str = "GET", *headers: str) -> bytes:
        """The response to a request line that no well-behaved client sends."""
        host, port = self.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            lines = [f"{method} {target} HTTP/1.1", f"Host: {host}:{port}", "Connection: close", *headers, "", ""]
            connection.sendall("\r\n".join(lines).encode())
            return b"".join(iter(lambda: connection.recv(65_536), b""))


@contextmanager
def serving(url: str, folder: Path, **settings: object) -> Iterator[Server]:
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    given = config.settings(database_url=url, home=folder, app_url=address, **settings)
    environment = {**given.environment(), "HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command("app", port), env=environment, stdout=output, stderr=output, cwd=folder)
    with connect(url, home=folder) as everyone:
        try:
            eventually(lambda: process.poll() is not None or answers(f"{address}/_stcore/health"))
            assert process.poll() is None, log.read_text()
            store = everyone.scoped(ORGANIZATION)
            yield Server(address, store, log)
        finally:
            process.terminate()
            process.wait(PATIENCE)
    assert "Traceback" not in log.read_text(), log.read_text()


@pytest.fixture(scope="module")
def database(server_url: str, _template: str) -> Iterator[str]:
    from support.database_servers import fresh_database

    shown, hidden = (
        [
            event(NOW - timedelta(days=day), dimensions=json.dumps({"model": model}), metric_key=METRIC)
            for day in range(2, 2 + number)
        ]
        for model, number in ((SHOWN_MODEL, 3), (SECRET_MODEL, 2))
    )
    with fresh_database(server_url, _template) as url:
        with ddl.connect(url) as connection:
            generated_events.insert(connection, [*shown, *hidden, *beside(hidden)])
            connection.commit()
        yield url


@pytest.fixture(scope="module")
def server(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "people.toml").write_text('["ana@example.com"]\norganizations = "all"\n')
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "secrets.toml").write_text(
        '[auth]\nredirect_uri = "http://127.0.0.1:1/oauth2callback"\n'
        'cookie_secret = "keeps the cookies cccccccccccccccc"\n'
        'client_id = "a"\nclient_secret = "b"\nserver_metadata_url = "http://127.0.0.1:1/nowhere"\n'
    )
    with serving(database, folder, embed_sites="https://wiki.example.com,https://*.example.org", **PROXIED) as made:
        yield made


@pytest.fixture(scope="module")
def link(server: Server) -> SharedLink:
    """A link that opens without sign-in."""
    return server.store.share(SHOWN, without_sign_in=True, display=[("chart", "lines")])


def path(link: SharedLink) -> str:
    return f"/s/{link.token}"


def words(answer: httpx.Response) -> str:
    """The text of a page without its pictures."""
    return unescape(re.sub(r"data:[^\"]*|<[^>]*>", " ", answer.text))


def leaks(text: str) -> bool:
    """Whether a text has a value of the events, or an id of an organization."""
    return any(secret in text for secret in (SECRET_MODEL, SHOWN_MODEL, str(NEIGHBOUR), str(ORGANIZATION), METRIC))


def test_the_link_shows_exactly_its_view(server: Server, link: SharedLink) -> None:
    answer = server.get(path(link))
    assert answer.status_code == 200
    assert "Total 3 events" in words(answer)
    assert f"model is {SHOWN_MODEL}" in words(answer)
    assert SECRET_MODEL not in answer.text
    assert str(NEIGHBOUR) not in answer.text
    assert not re.search("<script|<form|<iframe|javascript:|http-equiv", answer.text, re.IGNORECASE)
    data, picture = server.get(f"{path(link)}.csv"), server.get(f"{path(link)}.png")
    assert data.headers["content-type"].startswith("text/csv")
    assert SHOWN_MODEL in data.text
    assert SECRET_MODEL not in data.text
    assert picture.content.startswith(b"\x89PNG")
    for one in (answer, data, picture):
        assert "set-cookie" not in one.headers
        assert one.headers["cache-control"] == "private, no-store"
        assert one.headers["referrer-policy"] == "no-referrer"
        assert one.headers["x-robots-tag"] == "noindex"
        assert one.headers["x-frame-options"] == "DENY"
        assert one.headers["content-security-policy"].endswith("frame-ancestors 'none'")
        assert "default-src 'none'" in one.headers["content-security-policy"]


def test_the_page_has_nothing_of_the_organization_but_the_answer(server: Server) -> None:
    """A view without events names no value that there is, and not the time of the events, as an analyst's page does."""
    made = server.store.share(SHOWN.replace(dimensions={"model": "secret-model"}), without_sign_in=True)
    answer = server.store.aggregate(made.query)  # type: ignore[arg-type]
    assert any(SECRET_MODEL in hint for hint in answer.hints)
    for form in ("", ".csv"):
        shown = server.get(f"{path(made)}{form}")
        assert shown.status_code == 200
        assert SECRET_MODEL not in shown.text
        assert METRIC not in shown.text
    embedded = server.get("/embed", params={"link": made.token})
    assert embedded.status_code == 200
    assert SECRET_MODEL not in embedded.text


def test_the_selection_is_a_part_of_the_answer_at_every_door(server: Server) -> None:
    """Page, card and frame have the selected bar's number; the pictures have its outline, the data all of the view."""
    day = (NOW - timedelta(days=3)).replace(hour=0, minute=0, second=0)
    span = f"{day:%Y-%m-%dT00:00:00Z}/{day + timedelta(days=1):%Y-%m-%dT00:00:00Z}"
    chosen = [("series", f"value:{SHOWN_MODEL}"), ("span", span)]
    made = server.store.share(SHOWN, without_sign_in=True, display=chosen)
    whole = server.store.share(SHOWN, without_sign_in=True)
    when = formatting.span(day, day + timedelta(days=1))
    sentence = f"Selected: {when}, model {SHOWN_MODEL}: 1 event, 33.3 % of the window."
    page = server.get(path(made))
    head, _, body = page.text.partition("</head>")
    assert sentence in unescape(head)
    assert f'<p class="selected">{sentence}</p>' in body
    assert '<tr class="selected">' in body
    embedded = server.get("/embed", params={"link": made.token})
    assert sentence in words(embedded)
    assert server.get(f"{path(made)}.png").content != server.get(f"{path(whole)}.png").content
    assert server.get(f"{path(made)}.csv").content == server.get(f"{path(whole)}.csv").content
    for one in (page, embedded):
        assert SECRET_MODEL not in one.text
    assert "Selected" not in server.get(path(whole)).text


@pytest.mark.parametrize(
    "chosen",
    [
        [("series", f"value:{SECRET_MODEL}")],
        [("series", "other")],
        [("span", "2020-01-01T00:00:00Z/2020-01-02T00:00:00Z")],
        [("series", f"value:{SECRET_MODEL}"), ("span", "2020-01-01T00:00:00Z/2199-01-02T00:00:00Z")],
    ],
)
def test_a_selection_beyond_the_view_shows_nothing_more(server: Server, chosen: list[tuple[str, str]]) -> None:
    made = server.store.share(SHOWN, without_sign_in=True, display=chosen)
    answer = server.get(path(made))
    assert answer.status_code == 200
    assert SECRET_MODEL not in answer.text
    found = re.findall(r"Selected: .*?: (\d+) events?", words(answer))
    assert found in ([], ["3"])


def test_a_link_that_cannot_be_answered_says_so_in_words(server: Server) -> None:
    made = server.store.share(SHOWN, without_sign_in=True)
    with ddl.connect(str(server.store.records.url)) as connection:  # type: ignore[union-attr]
        connection.execute("UPDATE usage_links SET params = 'later_parameter=x' WHERE id = %s", [made.id])
        connection.commit()
    for door in (path(made), f"/embed?link={made.token}"):
        refused = server.get(door)
        assert refused.status_code == 400
        assert "ask its author for a new link" in words(refused)
        assert "later_parameter" not in refused.text


def test_a_card_of_the_link_has_its_title(server: Server, link: SharedLink) -> None:
    head = server.get(path(link), headers={"User-Agent": "Slackbot-LinkExpanding 1.0"}).text.partition("</head>")[0]
    title = re.search('property="og:title" content="([^"]*)"', head)
    assert title
    assert unescape(title[1]).startswith("Events per day by model, ")
    image = re.search('property="og:image" content="([^"]*)"', head)
    assert image
    assert image[1].endswith(f"{path(link)}.png")


@pytest.mark.parametrize("question", OTHER_QUESTIONS)
@pytest.mark.parametrize("form", ["", ".csv"])
def test_no_parameter_changes_the_answer(server: Server, link: SharedLink, form: str, question: str) -> None:
    assert server.get(f"{path(link)}{form}?{question}").content == server.get(f"{path(link)}{form}").content


@pytest.mark.parametrize(
    "headers", [{"Cookie": "_streamlit_user=x"}, {"Authorization": "Bearer ue_x"}, {"Accept": "*"}]
)
def test_no_header_changes_the_answer(server: Server, link: SharedLink, headers: dict[str, str]) -> None:
    assert server.get(path(link), headers=headers).content == server.get(path(link)).content


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_the_link_is_read_only(server: Server, link: SharedLink, method: str) -> None:
    head = server.raw(path(link), method, "Content-Length: 0").partition(b"\r\n")[0]
    assert b" 405 " in head
    assert server.get(path(link)).status_code == 200


def test_nothing_else_is_below_the_link(server: Server, link: SharedLink) -> None:
    gone = server.get("/s/" + "A" * 22)
    assert gone.status_code == 410
    for below in (
        "/",
        "/events",
        ".json",
        ".svg",
        ".csv/",
        ".csv.csv",
        ".",
        "..png",
        "%2Fevents",
        "%00",
        "%2e%2e%2fapi%2fv1%2fusage-events",
        "/../../api/v1/usage-events",
        "//evil.example",
        "%0d%0aSet-Cookie:x=1",
        "\\..\\explore",
    ):
        answer = server.raw(f"{path(link)}{below}")
        assert answer.split()[1] in (b"410", b"400"), below  # Streamlit refuses some of these paths itself
        assert not leaks(answer.decode(errors="replace")), below


def test_the_token_opens_no_other_door(server: Server, link: SharedLink) -> None:
    """Pages, API, downloads, media and uploads with the token as parameter, key, cookie and referrer."""
    headers = {
        "Authorization": f"Bearer {link.token}",
        "Cookie": f"link={link.token}; _streamlit_user={link.token}",
        "Referer": link.url,
    }
    params = {"link": link.token, "organization_id": str(ORGANIZATION), "group_by": "dim:model"}
    for door in ("/", "/explore", "/events", "/validate", "/customer", "/home", "/load", "/open"):
        answer = server.get(door, params=params, headers=headers)
        assert answer.status_code == 200
        assert not leaks(answer.text), door
    for door in ("", "/aggregate", "/aggregate.png", "/export", "/leaderboards"):
        assert server.get(f"/api/v1/usage-events{door}", params=params, headers=headers).status_code == 401, door
    assert server.get("/api/v1/links", params=params, headers=headers).status_code == 401
    assert server.get(f"/media/{link.token}.png", headers=headers).status_code == 404
    assert server.raw(f"/_stcore/upload_file/{link.token}/x", "PUT", "Content-Length: 0").split()[1] in (b"403", b"400")
    embed = server.get("/embed", params={"organization_id": str(ORGANIZATION)}, headers=headers)
    assert embed.status_code == 401
    assert not leaks(embed.text)
    both = server.get("/embed", params=params, headers=headers)
    assert both.status_code == 400
    assert not leaks(both.text)


def test_a_websocket_with_the_token_draws_the_sign_in_alone(server: Server, link: SharedLink) -> None:
    """Any widget, page and query may be forged in a message: the session has no data to show."""
    page = server.get("/open")
    token = page.cookies.get("_streamlit_xsrf") or "x"
    for name in ("", "explore", "open", "events"):
        message = BackMsg()
        message.rerun_script.query_string = f"link={link.token}&organization_id={ORGANIZATION}&group_by=dim:model"
        message.rerun_script.page_name = name
        message.rerun_script.widget_states.widgets.add(id="organization").string_value = str(ORGANIZATION)
        message.rerun_script.widget_states.widgets.add(id="make_short_link").trigger_value = True
        with websocket(
            f"ws{server.url.removeprefix('http')}/_stcore/stream",
            origin=server.url,
            subprotocols=["streamlit", token],
            additional_headers={"Cookie": f"_streamlit_xsrf={token}", "Referer": link.url},
            max_size=None,
            proxy=None,
        ) as opened:
            opened.send(message.SerializeToString())
            drawn = []
            while True:
                received = ForwardMsg()
                received.ParseFromString(opened.recv(PATIENCE))
                drawn.append(received)
                if received.HasField("script_finished"):
                    break
        shown = " ".join(str(one.delta) for one in drawn if one.HasField("delta"))
        assert "Sign in to see your organization" in shown, name
        assert not leaks(shown), name
    assert len(server.store.links()) == len({one.token for one in server.store.links()})


def test_unknown_revoked_expired_and_malformed_are_one_410(server: Server, link: SharedLink) -> None:
    revoked = server.store.share(SHOWN, without_sign_in=True)
    assert server.get(path(revoked)).status_code == 200  # and rendered, so kept
    server.store.revoke_link(revoked)
    expired = server.store.share(SHOWN, without_sign_in=True, expires=timedelta(milliseconds=1))
    signed_in = server.store.share(SHOWN)
    names = [
        *(f"{one.token}{form}" for one in (revoked, expired) for form in ("", ".csv", ".png")),
        *(f"{signed_in.token}{form}" for form in (".csv", ".png")),
        "A" * 22,
        "",
        "x",
        link.token.lower().replace(link.token[0], "_", 1),
        link.token[:-1],
        f"{link.token}A",
    ]
    found = [server.get(f"/s/{name}") for name in names]
    assert {one.status_code for one in found} == {410}
    assert len({one.content for one in found}) == 1
    assert len({tuple(sorted((k, v) for k, v in one.headers.items() if k != "date")) for one in found}) == 1
    elsewhere = [f"x/{link.token}", f"/s/{link.token}", f"http://evil.example/s/{link.token}"]
    assert {server.get(f"/s/{name}").content for name in elsewhere} == {found[0].content}
    framed = [revoked.token, signed_in.token, "x", *elsewhere]
    charts = {server.get("/embed", params={"link": name}).text for name in framed}
    assert len(charts) == 1
    assert "<a" not in charts.pop()  # the app is never framed
    for text in WORST:
        answer = server.get("/s/" + quote(text[:2_000], safe=""))
        assert answer.status_code in (410, 400), text
        assert not leaks(answer.text)


def test_a_link_that_was_opened_is_gone_once_its_organization_is_hidden(server: Server, database: str) -> None:
    """What was rendered for it is kept for ten minutes; five seconds is how long one look at the events counts."""
    link = server.store.share(SHOWN, without_sign_in=True)
    assert server.get(path(link)).status_code == 200
    elsewhere = UUID(int=ORGANIZATION.int + 1)
    with ddl.connect(database) as connection:
        move = "UPDATE usage_events SET organization_id = %s WHERE organization_id = %s"
        connection.execute(move, [elsewhere, ORGANIZATION])
        connection.commit()
        try:
            for form in ("", ".csv"):
                eventually(lambda form=form: server.get(path(link) + form).status_code == 410)
        finally:
            connection.execute(move, [ORGANIZATION, elsewhere])
            connection.commit()
    eventually(lambda: server.get(path(link)).status_code == 200)


def test_a_link_that_needs_a_sign_in_says_nothing_before_it(server: Server) -> None:
    made = server.store.share(SHOWN)
    answer = server.get(path(made))
    assert (answer.status_code, answer.headers["location"], answer.content) == (302, f"/open?link={made.token}", b"")
    followed = server.get(answer.headers["location"])
    assert "<title>usage-explore</title>" in followed.text
    assert not leaks(followed.text)
    assert server.store.link(made.token).opened_at is None  # nobody saw it


def test_opening_is_kept(server: Server) -> None:
    made = server.store.share(SHOWN, without_sign_in=True)
    assert server.get(path(made)).status_code == 200
    eventually(lambda: server.store.link(made.token).opened_at is not None)


def test_pages_of_links_are_framed_by_none_and_charts_by_the_named_sites(server: Server, link: SharedLink) -> None:
    answer = server.get("/embed", params={"link": link.token})
    assert answer.status_code == 200
    assert answer.headers["content-security-policy"].endswith(
        "frame-ancestors https://wiki.example.com https://*.example.org"
    )
    assert "x-frame-options" not in answer.headers
    assert SHOWN_MODEL in words(answer)
    assert SECRET_MODEL not in answer.text
    assert "<a " not in answer.text
    dark = server.get("/embed", params={"link": link.token, "theme": "dark"})
    assert 'class="embedded dark"' in dark.text
    # the frame of a site that may show the chart shows why there is none, too
    for question, status in ({"link": "x"}, 410), ({}, 401), ({"link": link.token, "theme": "red"}, 400):
        refused = server.get("/embed", params=question)
        assert refused.status_code == status
        assert refused.headers["content-security-policy"] == answer.headers["content-security-policy"]
        assert "API key" not in refused.text
    for door in ("/", "/explore", "/open", "/api/v1/usage-events"):
        policy = server.get(door).headers
        assert (policy["content-security-policy"], policy["x-frame-options"]) == (
            "frame-ancestors 'self'",
            "SAMEORIGIN",
        )


def test_strangers_get_the_products_title_alone(server: Server) -> None:
    title = f"group_by=dim:model&dim:model={SHOWN_MODEL}&organization_id={ORGANIZATION}"
    for door in ("/", "/explore", "/events", "/validate", "/customer", "/home", "/s", "/S/x", "/explore/x", "/nosuch"):
        for agent in ("Slackbot-LinkExpanding 1.0", "Mozilla/5.0"):
            answer = server.get(f"{door}?{title}", headers={"User-Agent": agent})
            head = answer.text.partition("</head>")[0]
            assert "<title>usage-explore</title>" in head
            assert not leaks(head)
            assert "og:image" not in head
            assert "og:description" not in head
            assert int(answer.headers["content-length"]) == len(answer.content)


def test_the_log_holds_no_token(server: Server, link: SharedLink) -> None:
    made = server.store.share(SHOWN, without_sign_in=True)
    for form in ("", ".csv", "/x", "?a=1"):
        server.get(f"{path(made)}{form}")
    server.get("/embed", params={"link": made.token})
    server.get("/open", params={"link": made.token})
    assert made.token not in server.log.read_text()
    assert link.token not in server.log.read_text()


def test_a_client_sends_a_bounded_number_of_requests(database: str, tmp_path: Path) -> None:
    with serving(database, tmp_path) as alone, httpx.Client(base_url=alone.url, timeout=PATIENCE) as client:
        statuses = [client.get("/s/" + "A" * 22).status_code for _ in range(122)]
        assert statuses == [410] * 120 + [429] * 2
        limited = client.get("/embed")
        assert limited.status_code == 429
        assert 0 < int(limited.headers["retry-after"]) <= 60


def test_the_setting_closes_links_without_sign_in(database: str, tmp_path: Path) -> None:
    (tmp_path / "people.toml").write_text('["ana@example.com"]\norganizations = "all"\n')
    with serving(database, tmp_path, public_links="false") as closed:
        made = closed.store.share(SHOWN, without_sign_in=True)
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("USAGE_EXPLORE_PUBLIC_LINKS", "false")
            with pytest.raises(QueryError, match="without_sign_in: is switched off here: USAGE_EXPLORE_PUBLIC_LINKS"):
                closed.store.share(SHOWN, without_sign_in=True)
        assert closed.get(path(made)).headers["location"] == f"/open?link={made.token}"
        assert closed.get(f"{path(made)}.csv").status_code == 410
        assert closed.get("/embed", params={"link": made.token}).status_code == 410


def test_links_of_this_machine_have_titles_and_escape_them(database: str, tmp_path: Path) -> None:
    """Where no one signs in, a card has the query in words, whatever is in it, and the picture of the API."""
    with serving(database, tmp_path) as alone:
        params = {"organization_id": str(ORGANIZATION), "group_by": "dim:model", "since": "-29d/d"}
        head = alone.get("/", params=params).text.partition("</head>")[0]
        assert "<title>Events per day by model, last 30 days, UTC · usage-explore</title>" in head
        image = re.search('property="og:image" content="([^"]*)"', head)
        assert image
        picture = alone.get(unescape(image[1]).removeprefix(alone.url))
        assert (picture.status_code, picture.content[:4]) == (200, b"\x89PNG")
        for text in ["</title><script>x</script>", '"><img src=x onerror=y>', "'\"&<>", *WORST]:
            head = alone.get("/explore", params={**params, "dim:model": text[:5_000]}).text.partition("</head>")[0]
            head = re.sub(r"<(script|link)\b[^>]*(\bsrc|\bhref)=\"\./[^>]*>|<script>\s*window.prerenderReady", "", head)
            assert "<img" not in head
            assert "<script>x" not in head
            assert "onerror" not in re.sub(r'content="[^"]*"|<title>[^<]*</title>', "", head)
            assert head.count("<title>") == 1
        assert "<title>usage-explore</title>" in alone.get("/explore?group_by=nonsense%ff").text
        for page, title in {
            "events": "Events, newest first",
            "validate": "Validation of usage, ",
            "customer": "Customer 00000000…, last 7 days, UTC",
            "home": "Saved views",
            "load": "Load events from a file",
        }.items():
            own = {"organization_id": str(ORGANIZATION)}
            own |= {"customer_id": str(UUID(int=1)), "since": "-7d"} if page == "customer" else {}
            head = alone.get(f"/{page}", params=own).text
            assert f"<title>{title}" in head
            found = re.search('property="og:image" content="([^"]*)"', head)
            assert bool(found) == (page != "load")
            if found:
                drawn = alone.get(unescape(found[1]).removeprefix(alone.url))
                assert (drawn.status_code, drawn.content[:4]) == (200, b"\x89PNG")
        made = alone.store.share(SHOWN)
        answer = alone.get(path(made))
        assert answer.status_code == 302
        assert answer.headers["location"] == made.target
        eventually(lambda: alone.store.link(made.token).opened_at is not None)
        embedded = alone.get("/embed", params={**params, "theme": "dark", "chart": "area"})
        assert embedded.status_code == 200
        assert embedded.headers["content-security-policy"].endswith("frame-ancestors 'none'")
        assert 'class="embedded dark"' in embedded.text
        wrong = alone.get("/embed", params={"group_by": "<script>"})
        assert wrong.status_code == 400
        assert "<script>" not in wrong.text
        other = alone.get("/embed", params={"organization_id": "00000000-0000-4000-8000-000000000099"})
        assert other.status_code == 403


def test_a_name_made_to_lead_here_gets_no_card_and_no_chart(database: str, tmp_path: Path) -> None:
    with serving(database, tmp_path) as alone:
        for door in ("/embed", f"/embed?organization_id={ORGANIZATION}", "/s/x", "/explore"):
            assert alone.get(door, headers={"Host": "evil.example"}).status_code == 421


def test_the_organization_of_a_link_is_the_only_one_that_is_read(server: Server) -> None:
    """A link in the table whose query names another organization still answers for its own."""
    made = server.store.share(EventQuery())
    assert isinstance(made.organization_id, UUID)
    with ddl.connect(str(server.store.records.url)) as connection:  # type: ignore[union-attr]
        connection.execute(
            "UPDATE usage_links SET access = 'anyone', page = 'explore', params = %s WHERE id = %s",
            [f"group_by=dim:model&organization_id={NEIGHBOUR}", made.id],
        )
        connection.commit()
    answer = server.get(path(made))
    assert str(NEIGHBOUR) not in answer.text
    with ddl.connect(str(server.store.records.url)) as connection:  # type: ignore[union-attr]
        connection.execute("UPDATE usage_links SET page = 'events', params = '' WHERE id = %s", [made.id])
        connection.commit()
    assert server.get(f"{path(made)}.csv").status_code == 410
