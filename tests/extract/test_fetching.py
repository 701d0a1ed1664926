"""Rows of DuckDB are made some at a time: while it makes them, no other thread of the process runs."""

from __future__ import annotations

from typing import Any

import duckdb
import pytest

from usage_explore.extract import engine
from usage_explore.extract.engine import Cursor


class Counted:
    """A connection of DuckDB that counts the rows of each piece."""

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self.connection, self.pieces = connection, list[int]()

    def execute(self, *statement: Any) -> Counted:
        self.connection.execute(*statement)
        return self

    def fetchmany(self, size: int) -> list[Any]:
        rows = self.connection.fetchmany(size)
        self.pieces.append(len(rows))
        return rows

    def fetchall(self) -> list[Any]:
        rows = self.connection.fetchall()
        self.pieces.append(len(rows))
        return rows


@pytest.mark.parametrize("rows", [0, 1, 3, 4, 5, 8, 2_049, 5_000])
def test_all_rows_come_in_order_in_pieces_to_the_end(rows: int) -> None:
    with duckdb.connect() as connection:
        counted = Counted(connection)
        cursor: Any = Cursor(counted, str)  # type: ignore[arg-type]
        statement = "SELECT range FROM range(?) ORDER BY range"
        assert cursor.run(statement, [rows], 4) == [(number,) for number in range(rows)]
        assert max(counted.pieces) <= 4
        assert counted.pieces[-1] == 0
        assert cursor.run(statement, [rows]) == [(number,) for number in range(rows)]
        for most in (rows - 1, rows, rows + 1):
            found = cursor.rows_up_to(most, statement, [rows]) if most >= 0 else None
            assert found == ([(number,) for number in range(rows)] if most >= rows else None)
        assert max(counted.pieces) <= engine._ROWS_AT_ONCE
