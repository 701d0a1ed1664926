"""The demo's files reconcile with its price book, apart from the mistakes planted in the invoice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support import demo_database
from usage_explore import Store, connect
from usage_explore.demo import files
from usage_explore.errors import ConfigurationError
from usage_explore.pricing.read import read_prices
from usage_explore.query.queries import Period

PERIOD = Period(**demo_database.WINDOW, finalized_at="2026-09-29T02:00:00Z")


@pytest.fixture(scope="module")
def demo_store(demo_url: str) -> Iterator[Store]:
    with connect(demo_url, demo_database.ACME) as opened:
        yield opened


def test_only_the_planted_mistakes_are_found(demo_store: Store, tmp_path: Path) -> None:
    paths = files.write(demo_store, PERIOD, tmp_path / "new" / "folder")
    assert sorted(path.name for path in paths.values()) == ["control.csv", "invoices.csv", "prices.toml", "wallets.csv"]
    given = {name: paths[name] for name in ("invoices", "prices", "wallets")}
    validation = demo_store.validate(PERIOD, checks=["reconciliation"], **given)
    assert validation.unchecked == ()
    assert validation.counts()["high"] == len(files.MISTAKES)
    right = files.invoice_lines(demo_store, PERIOD, mistakes=False)
    clean = demo_store.validate(PERIOD, checks=["reconciliation"], **{**given, "invoices": right})
    assert clean.counts()["high"] == 0
    table = clean.sheet("reconciliation")
    assert table is not None
    assert set(table[table["status"] != "matched"]["explained_by"]) == {"late events"}


def test_the_whole_demo_is_rated_in_its_currencies(demo_store: Store) -> None:
    rating = demo_store.rate(PERIOD, prices=files.price_rows(), wallets=files.wallets(demo_store, PERIOD))
    assert not rating.unpriced
    assert set(rating.totals) == {"USD", "EUR", "GBP"}
    assert len(read_prices(files.price_rows())) == 36


def test_a_folder_that_cannot_be_made_is_said(demo_store: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"--files: .* cannot be created"):
        files.write(demo_store, PERIOD, tmp_path / "file")
