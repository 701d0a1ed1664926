"""SQL expressions that give a column of any type the documented type, without losing a digit or an instant."""

from __future__ import annotations

from usage_explore.db.catalog import FITTING
from usage_explore.doctor.recognition import BLANKS, NUMBER, ZONED, Column, Table
from usage_explore.names import LOCAL_NAME, LOCAL_ORGANIZATION, NAMESPACE, kind_of, made_id
from usage_explore.sql.identifiers import literal

CONSTANTS = {
    "organization_id": LOCAL_ORGANIZATION,
    "customer_id": made_id("customer", LOCAL_NAME),
}
"""Where `load` puts events without an organization or a customer."""

UUID_TEXT = "^[0-9a-fA-F]{8}-?([0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}$"
_EXTENSIONS = """
SELECT e.extname, quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace
WHERE e.extname IN ('uuid-ossp', 'pgcrypto')
"""


class Expressions:
    """The expressions for the columns of one table."""

    def __init__(self, table: Table) -> None:
        self.table = table
        self.schemas: dict[str, str] = dict(table.connection.execute(_EXTENSIONS).fetchall())

    def stable(self, column: Column) -> str:
        """The text of a value, the same in every session."""
        if column.type == "timestamptz":
            return f"extract(epoch FROM {column.sql})::text"
        return self.text(column)

    def text(self, column: Column) -> str:
        """An expression of type text or varchar; the bare column where it is one."""
        return column.sql if column.type in FITTING["text"] else f"{column.sql}::text"

    def entity_id(self, name: str, columns: list[Column]) -> str:
        """The UUID of an organization, customer, product or subscription, by the first of the columns with a value."""
        kind = kind_of(name)
        constant = f"'{CONSTANTS[name]}'::uuid" if name in CONSTANTS else ""
        if len(columns) == 1 and columns[0].kind == "uuid":
            column = columns[0]
            return f"coalesce({column.sql}, {constant})" if constant and self.table.blank(column) else column.sql
        values = [self.value(column) for column in columns]
        lacks = self.lacks(columns[-1])
        if len(columns) == 1:
            value = self.plain(columns[0])
            missing = f"coalesce({value}, '') = ''" if columns[0].kind == "text" else f"{value} IS NULL"
        else:
            value = f"coalesce({', '.join(values)})"
            missing = f"{value} IS NULL"
        cases = f"WHEN {missing} THEN {constant or 'NULL'} " if lacks else ""
        if any(column.kind != "number" for column in columns):
            cases += f"WHEN {value} ~ '{UUID_TEXT}' THEN {value}::uuid "
        hashed = self.hashed(f"{literal(f'{kind}=')} || {value}")
        return f"CASE {cases}ELSE {hashed} END" if cases else hashed

    def plain(self, column: Column) -> str:
        """The text of an id without blanks around it."""
        text = self.text(column)
        return f"btrim({text}, {BLANKS})" if column.contents.padded else text

    def value(self, column: Column) -> str:
        """The text of an id; NULL if it is blank."""
        text = self.plain(column)
        return f"nullif({text}, '')" if column.kind == "text" and self.lacks(column) else text

    def lacks(self, column: Column) -> bool:
        """Whether a row may be without a value, now or later."""
        return column.nullable or self.table.blank(column)

    def hashed(self, text: str) -> str:
        """The UUIDv5 of a text where an extension has SHA-1, else an MD5 as a UUID."""
        if schema := self.schemas.get("uuid-ossp"):
            return f"{schema}.uuid_generate_v5('{NAMESPACE}', {text})"
        if schema := self.schemas.get("pgcrypto"):
            name = f"'\\x{NAMESPACE.hex}'::bytea || convert_to({text}, 'UTF8')"
            marked = "set_byte(set_byte(h, 6, get_byte(h, 6) & 15 | 80), 8, get_byte(h, 8) & 63 | 128)"
            hashed = f"substring({schema}.digest({name}, 'sha1') FOR 16)"
            return f"(SELECT encode({marked}, 'hex')::uuid FROM {hashed} AS h)"  # noqa: S608 - quoted names
        return f"md5({text})::uuid"

    def instant(self, column: Column) -> str:
        """An expression of type timestamptz; the bare column where it is one, so that chunks can be left out."""
        name, contents = column.sql, column.contents
        if column.type == "timestamptz":
            return name
        if column.type in ("timestamp", "date"):
            return f"{name}{'::timestamp' if column.type == 'date' else ''} AT TIME ZONE 'UTC'"
        if column.kind == "number":
            unit = column.epoch() or 1
            return f"to_timestamp({name}{f' / {unit}.0' if unit > 1 else ''})"
        name = self.text(column)
        value = f"nullif(btrim({name}, {BLANKS}), '')" if contents.filled < self.table.rows else name
        if contents.zoned == contents.filled > 0:
            return f"{value}::timestamptz"
        local = f"{value}::timestamp AT TIME ZONE 'UTC'"
        if not contents.zoned and contents.filled:
            return local
        return f"CASE WHEN {name} ~ {literal(ZONED).strip()} THEN {value}::timestamptz ELSE {local} END"

    def number(self, column: Column) -> str:
        """An expression of type numeric that keeps every digit."""
        name = column.sql
        if column.kind == "text":
            value = self.text(column)
            if column.contents.numbers < column.contents.filled:
                return f"CASE WHEN {value} ~ {literal(NUMBER).strip()} THEN {value}::numeric END"
            return f"nullif(btrim({value}, {BLANKS}), '')::numeric" if self.table.blank(column) else f"{value}::numeric"
        if column.type.startswith("float"):
            return f"{name}::text::numeric"
        return name if column.type == "numeric" else f"{name}::numeric"

    def member(self, column: Column) -> str:
        """A value in `jsonb_build_object`."""
        lost = column.type == "json" and column.contents.castable < column.contents.filled
        return f"{column.sql}::text" if lost or column.type == "bpchar" else column.sql

    def object(self, column: Column, none: str) -> str:
        """The JSON object of a column, else `none`; a value that is no object is one member, named like the column."""
        name, contents = column.sql, column.contents
        member = f"jsonb_build_object({literal(column.name).strip()}, {name})"
        if column.kind == "text":
            text = self.text(column)
            read = f"{text}::jsonb"
            return (
                f"CASE WHEN {name} IS NULL THEN {none} WHEN NOT pg_input_is_valid({text}, 'jsonb') THEN {member}"
                f" WHEN jsonb_typeof({read}) = 'object' THEN {read} ELSE {member} END"
            )
        if column.type == "json" and contents.castable < contents.filled:
            return f"CASE WHEN {name} IS NULL THEN {none} ELSE {member.removesuffix(')')}::text) END"
        read = name if column.type == "jsonb" else f"to_jsonb({name})"
        if self.table.complete and contents.objects == self.table.rows and not column.nullable:
            return read
        return (
            f"CASE WHEN {name} IS NULL THEN {none} WHEN jsonb_typeof({read}) = 'object' THEN {read} ELSE {member} END"
        )
