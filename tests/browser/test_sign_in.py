"""Signing in with a real provider in a real browser: who sees what, who is refused, and the way out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import pytest
from joserfc.jwk import RSAKey
from playwright.sync_api import Page, expect

from browser.identity_provider import CLIENT, SECRET, Provider, provider
from support.api_server import command
from support.browser_pages import (
    CHART,
    EITHER_WAY,
    Scheme,
    Site,
    address,
    at_rest,
    in_scheme,
    parameters,
    settled,
    violations,
)
from support.demo_database import ACME, BIRCH, WINDOW
from support.ports import free_port
from support.waiting import PATIENCE, answers, eventually
from usage_explore import AggregateQuery, EventQuery, Store, config
from usage_explore.query.url_params import query_string
from usage_explore.records.links import SharedLink

COOKIE_SECRET = "keeps the cookies " + "c" * 22
TABLE = f"""
["ana@example.com"]
organizations = ["{ACME}"]
["bob@example.com"]
organizations = ["{BIRCH}"]
"""
NUMBERS = address("explore", **WINDOW, group_by="customer_id")


@pytest.fixture(scope="module")
def issuer() -> Iterator[Provider]:
    with provider() as made:
        yield made


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "people.toml"


@pytest.fixture(scope="module")
def shared(site: Site, issuer: Provider, people: Path) -> Iterator[str]:
    """The address of an app where people sign in, on the same database."""
    people.write_text(TABLE)
    folder = people.parent
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    (folder / ".streamlit").mkdir()
    (folder / ".streamlit" / "secrets.toml").write_text(
        f'[auth]\nredirect_uri = "{url}/oauth2callback"\ncookie_secret = "{COOKIE_SECRET}"\nclient_id = "{CLIENT}"\n'
        f'client_secret = "{SECRET}"\nserver_metadata_url = "{issuer.url}/.well-known/openid-configuration"\n'
    )
    settings = config.settings(database_url=site.database_url, app_url=url, people=people, keys=folder / "keys.json")
    environment = {**settings.environment(), "HOME": str(folder), "PYTHONWARNINGS": "ignore"}
    log = folder / "log"
    with log.open("wb") as output:
        process = subprocess.Popen(command("app", port), env=environment, stdout=output, stderr=output, cwd=folder)
    try:
        eventually(lambda: answers(f"{url}/_stcore/health") or process.poll() is not None)
        yield url
    finally:
        process.terminate()
        assert process.wait(PATIENCE) == 0
    said = log.read_text()
    assert not any(secret in said for secret in (SECRET, COOKIE_SECRET, "_streamlit_user"))


@pytest.fixture
def arrive(new_page: Callable[..., Page], shared: str, issuer: Provider, people: Path) -> Callable[..., Page]:
    """Come with a fresh browser and sign in as somebody."""
    people.write_text(TABLE)

    def arrive(**claims: object) -> Page:
        issuer.claims = claims
        page = new_page()
        page.goto(shared)
        with page.expect_response(lambda response: "/oauth2callback" in response.url):
            page.get_by_role("button", name="Sign in").click()
        page.wait_for_load_state("networkidle")
        return page

    return arrive


@pytest.fixture
def share(store: Store) -> Iterator[Callable[..., SharedLink]]:
    """Make short links that need a sign-in; they are revoked in the end."""
    made: list[SharedLink] = []

    def share(query: AggregateQuery | EventQuery, *display: tuple[str, str]) -> SharedLink:
        made.append(store.share(query, display=display))
        return made[-1]

    yield share
    for link in made:
        store.revoke_link(link)


def test_people_see_their_own_and_never_each_others_numbers_and_links(
    arrive: Callable[..., Page], shared: str, people: Path, share: Callable[..., SharedLink]
) -> None:
    ana, bob = (arrive(email=f"{name}@example.com", email_verified=True) for name in ("ana", "bob"))
    for page, own, other in ((ana, ACME, BIRCH), (bob, BIRCH, ACME)):
        expect(page.get_by_role("button", name="Account")).to_be_visible()
        page.goto(f"{shared}{NUMBERS}&organization_id={other}")
        expect(page.get_by_text("is not an organization you may see")).to_be_visible()
        assert not page.locator(CHART).count()
        page.goto(shared + NUMBERS)
        expect(page.locator(CHART)).to_be_visible()
        assert f"organization_id={own}" in page.url
    knows_no_link_of_another_organization(bob, shared, share)
    people.write_text(TABLE.replace("ana@", "anna@"))
    ana.reload()
    expect(ana.get_by_text("No organization here is shown to you")).to_be_visible()
    assert not ana.locator(CHART).count()
    lines = (people.parent / "log").read_text().splitlines()
    logged = [json.loads(line) for line in lines if line.startswith("{") and line.endswith("}")]
    assert {"ana@example.com", "bob@example.com"} <= {line["user"] for line in logged if line["event"] == "query"}


def knows_no_link_of_another_organization(bob: Page, shared: str, share: Callable[..., SharedLink]) -> None:
    """To who may not see its organization a link is as unknown as none."""
    link = share(AggregateQuery(organization_id=ACME, **WINDOW))
    said = []
    for token in (link.token, "A" * 22):
        bob.goto(f"{shared}/s/{token}")
        message = bob.get_by_text("This link is unknown, has expired or was revoked.")
        expect(message).to_be_visible()
        bob.goto(f"{shared}/open?link={token}")
        expect(message).to_be_visible()
        at_rest(bob)
        said.append(bob.locator('[data-testid="stMain"]').inner_text())
    assert said[0] == said[1]
    assert ACME not in said[0]
    bob.get_by_role("link", name="Home").click()
    bob.wait_for_url(lambda url: "/open" not in url)
    expect(message).to_be_hidden()


def test_signing_in_ends_at_the_link_that_was_opened(
    new_page: Callable[..., Page], shared: str, issuer: Provider, people: Path
) -> None:
    people.write_text(TABLE)
    issuer.claims = {"email": "ana@example.com", "email_verified": True}
    page = new_page()
    page.goto(shared + address("", **WINDOW, group_by="customer_id", **{"dim:model": "& a"}))
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Account")).to_be_visible()
    asked = parameters(page)
    assert asked.pop("organization_id") == [ACME]
    assert asked == {
        **{name: [value] for name, value in WINDOW.items()},
        "group_by": ["customer_id"],
        "dim:model": ["& a"],
    }


@pytest.mark.parametrize(
    ("query", "display", "shown"),
    [
        (
            AggregateQuery(
                organization_id=ACME,
                window="2026-09",
                timezone="Europe/Berlin",
                group_by="metric_key",
                dimensions={"model": ["a & b", "atlas-large"]},
                exclude={"metric_key": ["tokens_in"], "missing": ["product_id"]},
                metric="sum_quantity",
            ),
            [("chart", "lines"), ("span", "2026-09-09T22:00:00Z/2026-09-10T22:00:00Z"), ("tab", "who")],
            CHART,
        ),
        pytest.param(
            EventQuery(organization_id=ACME, occurred_before="2026-09-10T00:00:00Z", metric_key=["tokens_in"], limit=5),
            [("timezone", "Asia/Kathmandu")],
            '[data-testid="stDataFrame"]',
            marks=pytest.mark.thorough,
        ),
    ],
)
def test_a_short_link_ends_at_its_view_after_the_sign_in(
    new_page: Callable[..., Page],
    shared: str,
    issuer: Provider,
    people: Path,
    share: Callable[..., SharedLink],
    query: AggregateQuery | EventQuery,
    display: list[tuple[str, str]],
    shown: str,
) -> None:
    """Through `/open`, which says nothing of the view before: filters, window, as_of, zone and organization."""
    link = share(query, *display)
    people.write_text(TABLE)
    issuer.claims = {"email": "ana@example.com", "email_verified": True}
    page = new_page()
    page.goto(f"{shared}/s/{link.token}")
    assert page.url == f"{shared}/open?link={link.token}"
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert ACME not in page.content()
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"**/{link.page}?**")
    expect(page.locator(shown).first).to_be_visible()
    asked = parse_qs(urlsplit(page.url).query)
    assert asked == parse_qs(query_string(link.pairs()))
    assert asked["organization_id"] == [ACME]
    assert "as_of" in asked
    page.go_back()
    page.wait_for_url(lambda url: "/open" not in url)


@EITHER_WAY
def test_the_pages_around_signing_in_are_accessible(
    new_page: Callable[..., Page], shared: str, issuer: Provider, people: Path, schemes: tuple[Scheme, Scheme]
) -> None:
    people.write_text(TABLE)
    issuer.claims = {"email": "eve@example.com", "email_verified": True}
    page = new_page(color_scheme=schemes[0])
    page.goto(shared)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert violations(at_rest(page)) == []
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    assert violations(in_scheme(page, schemes[1])) == []
    people.write_text(TABLE.replace("ana@", "eve@"))
    page.goto(shared + address("", organization_id=ACME, **WINDOW))
    page.get_by_role("button", name="Account").click()
    settled(page)
    assert violations(page) == []


@pytest.mark.parametrize(
    "claims",
    [
        {"email": "eve@example.com", "email_verified": True},
        {"email": "ana@example.com", "email_verified": False},
        {"email": "ana@example.com"},
        {"name": "ana@example.com"},
    ],
)
def test_who_is_granted_nothing_is_told_so(arrive: Callable[..., Page], claims: dict[str, object]) -> None:
    page = arrive(**claims)
    expect(page.get_by_text("No organization here is shown to you")).to_be_visible()
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def test_a_token_that_the_provider_did_not_sign_is_no_sign_in_and_signing_out_ends_one(
    arrive: Callable[..., Page], issuer: Provider, shared: str
) -> None:
    issuer.signer = RSAKey.generate_key(2048, {"kid": "one"}, private=True)
    try:
        page = arrive(email="ana@example.com", email_verified=True)
    finally:
        issuer.signer = issuer.key
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    refused = page.get_by_text("You are not signed in")
    expect(refused).to_be_visible()
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_role("button", name="Account")).to_be_visible()
    at_rest(page).get_by_role("button", name="Account").click()
    expect(page.get_by_text("Signed in as ana@example.com")).to_be_visible()
    # "Sign in" may show before the browser has asked for the end of its session: that answer removes the cookie
    with page.expect_response(lambda response: "/auth/logout" in response.url):
        at_rest(page).get_by_role("button", name="Sign out").click()
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    expect(refused).to_be_hidden()
    page.goto(shared + NUMBERS)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()
    assert not page.locator(CHART).count()


def test_a_link_that_is_too_long_to_come_back_to_says_so(new_page: Callable[..., Page], shared: str) -> None:
    page = new_page()
    for values, is_too_long in ((2, False), (90, True)):
        page.goto(shared + NUMBERS + "".join(f"&dim:model={number:050}" for number in range(values)))
        expect(page.get_by_text("You come back to the link")).to_be_visible(visible=not is_too_long)
        expect(page.get_by_text("too long to come back to")).to_be_visible(visible=is_too_long)


def test_a_cookie_of_ones_own_making_is_no_sign_in(new_page: Callable[..., Page], shared: str) -> None:
    page = new_page()
    value = '{"email": "ana@example.com", "is_logged_in": true, "origin": "' + shared + '"}'
    page.context.add_cookies([{"name": "_streamlit_user", "value": value, "url": shared}])
    page.goto(shared)
    expect(page.get_by_role("button", name="Sign in")).to_be_visible()


def test_beside_an_app_with_people_the_api_needs_a_key(shared: str) -> None:
    with pytest.raises(HTTPError) as refused:
        urlopen(f"{shared}/api/v1/usage-events?organization_id={ACME}", timeout=PATIENCE)
    assert refused.value.code == 401
    refused.value.close()
