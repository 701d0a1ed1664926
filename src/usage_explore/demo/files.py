"""Files to try a validation of the demo with: prices, an invoice with mistakes, preferences, control totals."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from usage_explore.demo import control, invoice, prices
from usage_explore.errors import ConfigurationError
from usage_explore.formatting import path_text
from usage_explore.results.whole_file import whole_file

if TYPE_CHECKING:
    from usage_explore.query.queries import Period
    from usage_explore.store import Store


def write(store: Store, period: Period, folder: Path) -> dict[str, Path]:
    """Write `prices.toml`, `invoices.csv`, `wallets.csv` and `control.csv` of a period into a folder, which is created.

    By the option of `usage-explore validate` that takes each. Files of these names are replaced. Raises
    `ConfigurationError` for a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"--files: {path_text(folder)} cannot be created ({error.strerror}); name another"
        ) from None
    frames = {
        "invoices": invoice.lines(store, period),
        "wallets": invoice.wallets(store, period),
        "control": control.totals(store, period),
    }
    paths = {"prices": folder / "prices.toml"}
    with whole_file(paths["prices"]) as part:
        part.write_text(prices.toml(), encoding="utf-8")
    for name, frame in frames.items():
        paths[name] = folder / f"{name}.csv"
        with whole_file(paths[name]) as part:
            frame.to_csv(part, index=False)
    return paths
