"""Names in SQL text come back from the database as they went in."""

from __future__ import annotations

from usage_explore.db import ddl
from usage_explore.sql.identifiers import literal, quoted

ODD = ("a%b", 'a"b', "it's", "Über", "über", "a$b", "1a", "$a", "A", "a b", "a.b", "back\\slash", "usage_events")
UNPRINTED = ("a\nb", "a\r; -- \"b\" 'c' \\n", "\x1b[31m", "\u202eabc", "\U000e0041", "\u2028")


def test_every_keyword_and_odd_name_is_a_column_s_name(connection: ddl.Connection) -> None:
    keywords = [str(word) for (word,) in connection.execute("SELECT word FROM pg_get_keywords()")]
    for start in range(0, len(keywords), 100):
        names = [*keywords[start : start + 100], *ODD, *UNPRINTED]
        columns = ", ".join(f"{quoted(name)} int" for name in names)
        connection.execute(f"CREATE TEMP TABLE named ({columns}) ON COMMIT DROP".encode())
        selected = connection.execute(f"SELECT {', '.join(map(quoted, names))} FROM named".encode())
        assert [column.name for column in selected.description or ()] == names
        connection.rollback()


def test_a_name_is_quoted_only_where_it_must_be() -> None:
    assert quoted("usage_events", "metering") == "metering.usage_events"
    assert quoted("order", "Metering") == '"Metering"."order"'


def test_literals_are_the_text(connection: ddl.Connection) -> None:
    for text in (*ODD, *UNPRINTED):
        assert connection.execute(f"SELECT {literal(text)}".encode()).fetchone() == (text,)


def test_no_text_ends_a_comment_or_has_control_characters() -> None:
    for text in UNPRINTED:
        assert quoted(text, text).isprintable()
        assert literal(text).isprintable()
