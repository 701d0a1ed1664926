"""Who sees what in the app: decided at every look, whatever other sessions have made it remember."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import streamlit as st
from streamlit import config as streamlit_config
from streamlit.testing.v1 import AppTest

from support.app_pages import MAIN, opened, validate_page
from support.check_results import identity
from support.demo_database import ACME, BIRCH, CEDAR, WINDOW
from support.waiting import PATIENCE
from usage_explore import connect
from usage_explore.app import sign_in
from usage_explore.app.cache import Source
from usage_explore.app.exports import made_at_click
from usage_explore.errors import ScopeError
from usage_explore.query.queries import Period

ADDRESS = "https://usage.example/oauth2callback"
SECRETS = {
    "auth": {
        "redirect_uri": ADDRESS,
        "cookie_secret": "c" * 32,
        "client_id": "usage",
        "client_secret": "shared",
        "server_metadata_url": "https://login.example/.well-known/openid-configuration",
    }
}
TABLE = f"""
["ana@example.com"]
organizations = ["{ACME}"]
["bob@example.com"]
organizations = ["{BIRCH}", "{CEDAR}"]
["audit@example.com"]
organizations = "all"
["new@example.com"]
organizations = []
["elsewhere@example.com"]
organizations = ["{uuid4()}"]
"""
NUMBERS = {**WINDOW, "group_by": "customer_id"}

Ask = Callable[..., AppTest]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "people.toml"
    path.write_text(TABLE)
    return path


@pytest.fixture
def ask(use: Callable[..., None], demo_url: str, table: Path) -> Ask:
    """Open Explore, or Validate, as somebody, in a session of its own; what was remembered stays."""
    use(demo_url, PEOPLE=str(table))

    def ask(
        email: str | None,
        secrets: dict[str, Any] = SECRETS,
        verified: Any = True,
        validate: bool = False,
        **parameters: Any,
    ) -> AppTest:
        app = AppTest.from_file(MAIN, default_timeout=PATIENCE)
        if validate:
            app = AppTest.from_function(validate_page, default_timeout=PATIENCE)
        app.secrets = secrets
        app.user = {"is_logged_in": False} if email is None else {"is_logged_in": True, "email": email}
        if verified is not None:
            app.user["email_verified"] = verified
        return opened(app, parameters)

    return ask


def said(app: AppTest) -> str:
    found = [*app.markdown, *app.subheader, *app.caption, *app.info, *app.error, *app.warning, *app.button]
    found += [*app.success]
    return "\n".join(str(each.label if each.type == "button" else each.value).replace("\\", "") for each in found)


def shows_numbers(app: AppTest) -> bool:
    return len(app.get("vega_lite_chart")) == 1


def test_who_has_not_signed_in_sees_a_button_and_nothing_else(ask: Ask) -> None:
    ask("audit@example.com", organization_id=ACME, **NUMBERS)
    for parameters in ({}, {"organization_id": ACME, **NUMBERS}, {"nonsense": "1"}):
        app = ask(None, **parameters)
        assert [each.label for each in app.button] == ["Sign in"]
        assert "Sign in to see" in said(app)
        assert not shows_numbers(app)
        assert not (app.error)
        assert not app.selectbox


def test_people_see_their_organizations_and_no_others(ask: Ask) -> None:
    assert shows_numbers(ask("ANA@example.com", **NUMBERS))
    assert shows_numbers(ask("ana@example.com", organization_id=ACME, **NUMBERS))
    offered = ask("bob@example.com", **NUMBERS)
    assert {each.key for each in offered.button} == {f"organization_{each}" for each in (BIRCH, CEDAR)}
    picker = ask("bob@example.com", organization_id=BIRCH, **NUMBERS).selectbox(key="organization")
    assert set(picker.options) == {"Birch Labs", "Cedar Studio"}
    everything = ask("audit@example.com", organization_id=CEDAR, **NUMBERS).selectbox(key="organization")
    assert len(everything.options) == 3


def test_what_others_were_shown_is_never_shown_to_who_may_not_see_it(ask: Ask) -> None:
    link = {"organization_id": BIRCH, **NUMBERS}
    before = ask("ana@example.com", **link)
    assert shows_numbers(ask("bob@example.com", **link))
    assert shows_numbers(ask("audit@example.com", **link))
    after = ask("ana@example.com", **link)
    unknown = str(uuid4())
    nowhere = ask("ana@example.com", **{**link, "organization_id": unknown})
    assert not any(shows_numbers(app) for app in (before, after, nowhere))
    assert said(before) == said(after) == said(nowhere).replace(unknown, BIRCH)
    assert "is not an organization you may see" in said(after)
    assert "Birch" not in said(after)


@pytest.mark.usefixtures("brief_checks")
def test_an_examination_is_never_shown_to_who_may_not_see_it(ask: Ask, table: Path) -> None:
    link = {"organization_id": ACME, **WINDOW}
    before = ask("bob@example.com", validate=True, **link)
    mine = examined(ask("ana@example.com", validate=True, **link))
    assert listed(ask("audit@example.com", validate=True, **link)) == listed(mine), "this was remembered for all"
    with connect(os.environ["USAGE_EXPLORE_DATABASE_URL"]) as store:
        finding = identity(store.validate(Period(**link)).findings[0])
    refused = said(ask("bob@example.com", **link))
    assert "is not an organization you may see" in refused
    unknown = str(uuid4())
    assert said(ask("bob@example.com", validate=True, **{**link, "organization_id": unknown})) == refused.replace(
        ACME, unknown
    )
    after = ask("bob@example.com", validate=True, **link)
    opening = ask("bob@example.com", validate=True, **link, finding=finding)
    for app in (before, after, opening):
        assert said(app) == refused
        assert shows_nothing(app)
    # the session that examined it keeps nothing for who is taken out of the table
    table.write_text(TABLE.replace("ana@", "anna@"))
    mine.run()
    assert shows_nothing(mine)
    assert "No organization here is shown to you" in said(mine)


@pytest.mark.usefixtures("brief_checks")
def test_a_session_s_examination_stays_with_its_organization(ask: Ask) -> None:
    app = examined(ask("audit@example.com", validate=True, organization_id=ACME, **WINDOW))
    app.query_params["organization_id"] = BIRCH
    app.run()
    assert "Checks not run yet" in said(app)
    assert not app.dataframe
    assert not app.tabs


def examined(app: AppTest) -> AppTest:
    """With its checks run."""
    app.button(key="run_checks").click().run()
    assert not app.error
    assert listed(app)
    return app


def listed(app: AppTest) -> list[str]:
    """The sentences of the findings."""
    return [text for table in app.dataframe for text in table.value.get("Finding", ())]


def shows_nothing(app: AppTest) -> bool:
    """Neither a number nor a way to one."""
    kinds = ("vega_lite_chart", "arrow_data_frame", "arrow_table", "tab", "download_button", "file_uploader", "code")
    return not any(list(app.get(kind)) for kind in kinds) and not app.dataframe and not app.table


@pytest.mark.parametrize(
    ("email", "verified"),
    [
        ("eve@example.com", True),
        ("new@example.com", True),
        ("ana@example.com", False),
        ("ana@example.com", "false"),
        ("ana@example.com", "yes"),
        ("ana@example.com", None),
        ("", True),
    ],
)
def test_who_is_granted_nothing_is_told_so_calmly(ask: Ask, email: str, verified: object) -> None:
    app = ask(email, verified=verified, organization_id=ACME, **NUMBERS)
    assert not shows_numbers(app)
    assert len(app.info) == 1
    assert "No organization here is shown to you" in said(app)
    assert ("email_verified" in said(app)) == (verified is not True)
    assert [each.label for each in app.button] == ["Sign out"]


@pytest.mark.parametrize("verified", [True, "true"])
def test_a_verified_address_is_let_in(ask: Ask, verified: object) -> None:
    assert shows_numbers(ask("ana@example.com", verified=verified, **NUMBERS))


def test_where_the_table_says_so_silence_about_an_address_is_enough(ask: Ask, table: Path) -> None:
    table.write_text(f'email_verified = "optional"\n{TABLE}')
    assert shows_numbers(ask("ana@example.com", verified=None, **NUMBERS))


def test_an_address_without_a_sign_in_is_nobody(ask: Ask) -> None:
    app = AppTest.from_file(MAIN, default_timeout=PATIENCE)
    app.secrets, app.user = SECRETS, {"email": "audit@example.com"}
    assert [each.label for each in opened(app, {}).button] == ["Sign in"]


def test_an_organization_without_events_is_not_made_up(ask: Ask) -> None:
    app = ask("elsewhere@example.com", **NUMBERS)
    assert "no events here that you may see" in said(app)
    assert not shows_numbers(app)
    assert not app.selectbox


def test_taking_somebody_out_takes_effect_at_once(ask: Ask, table: Path) -> None:
    app = ask("ana@example.com", organization_id=ACME, **NUMBERS)
    assert shows_numbers(app)
    table.write_text(TABLE.replace("ana@", "anna@"))
    app.run()
    assert not shows_numbers(app)
    assert "No organization here is shown to you" in said(app)
    table.write_text(TABLE.replace(ACME, BIRCH))
    app.run()
    assert not shows_numbers(app)
    assert "is not an organization you may see" in said(app)


def test_a_file_that_is_made_at_the_click_is_for_who_may_see_it_then(
    table: Path, use: Callable[..., None], demo_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(demo_url, PEOPLE=str(table))
    ana = {"is_logged_in": True, "email": "ana@example.com", "email_verified": True}
    monkeypatch.setattr(sign_in, "_user", lambda: ana)
    with connect(demo_url, ACME) as store:
        made = made_at_click(lambda: b"events", Source(store, store.now()))
        assert made() == b"events"
        table.write_text(TABLE.replace(ACME, BIRCH))  # another organization is still hers
        with pytest.raises(ScopeError, match="Nothing here is yours to see any longer"):
            made()
        table.write_text(TABLE)
        assert made() == b"events"


@pytest.mark.parametrize("name", SECRETS["auth"])
def test_a_sign_in_that_lacks_something_lets_nobody_in(ask: Ask, name: str) -> None:
    secrets = {"auth": {**SECRETS["auth"], name: ""}}
    for email in ("audit@example.com", None):
        app = ask(email, secrets, organization_id=ACME, **NUMBERS)
        assert not shows_numbers(app)
        assert not app.button
        assert f"auth.{name}" in said(app).replace("\\", "")


def test_a_guessable_cookie_secret_lets_nobody_in(ask: Ask) -> None:
    app = ask("audit@example.com", {"auth": {**SECRETS["auth"], "cookie_secret": "xxx"}}, **NUMBERS)
    assert "32 random characters" in said(app)
    assert not shows_numbers(app)


@pytest.mark.parametrize("text", ["[", '["ana@example.com"]\norganization = "all"', "\x00"])
def test_a_broken_table_lets_nobody_in(ask: Ask, table: Path, text: str) -> None:
    table.write_text(text)
    app = ask("audit@example.com", organization_id=ACME, **NUMBERS)
    assert not shows_numbers(app)
    assert "people:" in said(app)


def test_a_table_that_vanishes_lets_nobody_in(ask: Ask, table: Path) -> None:
    assert shows_numbers(ask("audit@example.com", organization_id=ACME, **NUMBERS))
    away = table.rename(table.with_suffix(".away"))
    for email in ("audit@example.com", None):
        assert not shows_numbers(ask(email, organization_id=ACME, **NUMBERS))
    away.rename(table)
    assert shows_numbers(ask("audit@example.com", organization_id=ACME, **NUMBERS))


@pytest.mark.parametrize("address", [None, "0.0.0.0", "::", "192.0.2.7", "usage.example"])
def test_where_others_reach_the_app_nobody_is_let_in_without_a_table(
    ask: Ask, table: Path, monkeypatch: pytest.MonkeyPatch, address: str | None
) -> None:
    table.unlink()
    assert shows_numbers(ask("test@example.com", organization_id=ACME, **NUMBERS))
    before = st.get_option("server.address")
    streamlit_config.set_option("server.address", address)
    try:
        app = ask("test@example.com", organization_id=ACME, **NUMBERS)
    finally:
        streamlit_config.set_option("server.address", before)
    assert not shows_numbers(app)
    assert "which other machines can reach, without sign-in, so it shows no data" in said(app)


def test_a_name_made_to_lead_here_is_turned_away(ask: Ask, table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table.unlink()
    monkeypatch.setattr("streamlit.runtime.context.ContextProxy.headers", {"Host": "evil.example:8501"})
    assert not shows_numbers(ask("test@example.com", organization_id=ACME, **NUMBERS))
    monkeypatch.setenv("USAGE_EXPLORE_APP_URL", "https://evil.example")
    assert shows_numbers(ask("test@example.com", organization_id=ACME, **NUMBERS))
