"""The code of the Validate page gives the findings of the page, also those of files."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from streamlit.testing.v1 import AppTest

from support.app_pages import Open, opened, ran
from support.demo_database import ACME, WINDOW
from usage_explore.app.uploads import File
from usage_explore.app.validate.code_tab import validation_code
from usage_explore.app.validate.files import dropped_key
from usage_explore.query.queries import Period

pytestmark = pytest.mark.usefixtures("brief_checks")

LINK = {"organization_id": ACME, **WINDOW, "as_of": "2026-10-05T00:00:00Z"}
PERIOD = Period.from_params(LINK)
LINES = f"customer_id,metric_key,quantity,amount,currency\n{uuid4()},tokens_out,5,1,USD\n".encode()
BOOK = b'[[prices]]\nmetric_key = "tokens_in"\nunit_amount = "0.001"\ncurrency = "USD"\n'


def codes(app: AppTest) -> list[str]:
    app.session_state["validate_tab"] = "Code"
    return [each.value for each in opened(app, {}).code if "store.validate" in each.value]


def test_the_code_gives_the_findings_of_the_page_with_its_files(
    validate: Open, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    app = ran(validate(**LINK))
    given = {
        "invoices": File('l"i\nnes.csv', LINES),
        "prices": File("book.toml", BOOK),
        "wallets": File("faulty.csv", b"customer_id,currency\nnobody,\n"),
    }
    for kind, file in given.items():
        app.session_state[dropped_key(kind, PERIOD)] = file  # type: ignore[arg-type]
        (tmp_path / file.name).write_bytes(file.content)
    live, pinned = codes(app)
    monkeypatch.chdir(tmp_path)
    for code in (live, pinned):
        made: dict[str, Any] = {}
        exec(code, made)
        made["store"].close()
        validation = made["validation"]
        assert set(validation.files) == {"invoices", "prices"}
        assert {"reconciliation", "unpriced"} <= set(validation.frame["check"])
        told = "\n".join(each.value for each in (*app.markdown, *app.caption, *app.subheader))
        for severity, number in validation.counts().items():
            assert f"[{number:,}]" in told, severity
    assert "faulty.csv" not in pinned
    assert any("folder in which it runs" in each.value for each in app.caption)


def test_the_code_without_files_names_none(validate: Open) -> None:
    app = ran(validate(**LINK))
    assert all("validation = store.validate(period)\n" in code for code in codes(app))
    assert not any("folder in which it runs" in each.value for each in app.caption)


def test_files_that_the_code_cannot_name_are_said_in_a_comment() -> None:
    code = validation_code(PERIOD, {"invoices": "a.csv", "control": "a.csv", "names": "who\n.csv"})
    compile(code, "code", "exec")
    comments = [line for line in code.splitlines() if line.startswith("#")]
    assert "'who\\n.csv'" in comments[0]
    assert "usage-explore names load" in comments[0]
    assert "same name" in comments[1]
    assert not any(line.startswith("#") for line in validation_code(PERIOD, {"invoices": "a.csv"}).splitlines())
