"""Which rows of a file, staged for loading, an earlier load has at the same time: restated, or with other columns."""

from __future__ import annotations

from decimal import Decimal
from typing import Any, Literal, NamedTuple

from psycopg import sql
from sqlalchemy import ColumnElement, Text, case, cast, func

_RESTATED = """
WITH met AS MATERIALIZED (
    SELECT organization_id, timestamp, metric_key, customer_id FROM {stage}
    INTERSECT
    SELECT t.organization_id, t.timestamp, t.metric_key, t.customer_id FROM {table} t
    LEFT JOIN pg_temp.usage_explore_known k
      ON k.organization_id = t.organization_id AND k.timestamp = t.timestamp AND k.id = t.id
    WHERE k.id IS NULL AND t.timestamp BETWEEN %(first)s AND %(last)s AND t.organization_id = ANY (%(organizations)s)
), staged AS MATERIALIZED (
    SELECT s.ordinal, NOT s.keyed AS without_key, {compared}
    FROM {stage} s JOIN met USING (organization_id, timestamp, metric_key, customer_id)
), stored AS MATERIALIZED (
    SELECT s.ingested_at, s.idempotency_key LIKE 'row:%%' AS without_key, {compared}
    FROM {table} s JOIN met USING (organization_id, timestamp, metric_key, customer_id)
    LEFT JOIN pg_temp.usage_explore_known k
      ON k.organization_id = s.organization_id AND k.timestamp = s.timestamp AND k.id = s.id
    WHERE k.id IS NULL AND s.timestamp BETWEEN %(first)s AND %(last)s AND s.organization_id = ANY (%(organizations)s)
), of_file AS MATERIALIZED (
    SELECT {met}, content, {total} AS total, {lowest} AS lowest, {highest} AS highest, {charged} AS charged
    FROM staged GROUP BY {met}, content
), of_table AS MATERIALIZED (
    SELECT {met}, content, {total} AS before, {lowest} AS low, {highest} AS high, {charged} AS paid,
        bool_or(without_key) AS without_key
    FROM stored GROUP BY {met}, content
), restated AS MATERIALIZED (
    SELECT s.ordinal, {is_correction} AS is_correction, {is_near} AS is_near
    FROM staged s JOIN of_file USING ({met}, content) JOIN of_table t USING ({met}, content)
    WHERE s.without_key OR t.without_key
), shared AS MATERIALIZED (
    SELECT array(
        SELECT jsonb_object_keys(texts) FROM staged INTERSECT SELECT jsonb_object_keys(texts) FROM stored) AS keys,
        array(
        SELECT jsonb_object_keys(labels) FROM staged INTERSECT SELECT jsonb_object_keys(labels) FROM stored) AS names
), equal AS MATERIALIZED (
    SELECT s.ordinal, t.ingested_at, coalesce(s.cost = ANY (t.costs), false) AS has_cost
    FROM (SELECT ordinal, cost, {met}, quantity, row_number() OVER (PARTITION BY {met}, quantity) AS place FROM staged
          WHERE ordinal NOT IN (SELECT ordinal FROM restated)) s
    JOIN (SELECT {met}, quantity, ingested_at, count(*) AS number, array_agg(DISTINCT cost) AS costs FROM stored
          GROUP BY {met}, quantity, ingested_at) t USING ({met}, quantity)
    WHERE s.place <= t.number
), fitting AS MATERIALIZED (
    SELECT s.ordinal, t.ingested_at,
        bool_or(s.unnamed @> t.unnamed OR t.unnamed @> s.unnamed) AS with_texts,
        bool_or((s.without_key OR t.without_key) AND s.labelled = t.labelled
            AND (s.unnamed @> t.unnamed OR t.unnamed @> s.unnamed)) AS with_all,
        bool_or(s.without_key OR t.without_key) AS is_one_without_key
    FROM (SELECT ordinal, {alike} FROM {staged} WHERE ordinal NOT IN (SELECT ordinal FROM restated)) s
    JOIN (SELECT ingested_at, {alike} FROM {stored}) t USING ({met}, quantity, common)
    WHERE s.number * t.number <= {most_pairs}
    GROUP BY s.ordinal, t.ingested_at
), again AS MATERIALIZED (
    SELECT ordinal, ingested_at, coalesce(has_cost, false) AS has_cost, coalesce(with_texts, false) AS with_texts,
        coalesce(with_all, false) AS with_all, coalesce(is_one_without_key, false) AS is_common
    FROM equal FULL JOIN fitting USING (ordinal, ingested_at)
), met_rows AS (
    SELECT ordinal, mod(extract(epoch FROM timestamp), {grid}::numeric) <> 0::numeric
        AND 2 * count(*) OVER (PARTITION BY organization_id, customer_id, metric_key, quantity)
            <= count(*) OVER (PARTITION BY organization_id, customer_id, metric_key) AS is_evidence
    FROM staged
), spaced AS (
    SELECT *, timestamp - lag(timestamp) OVER (
        PARTITION BY organization_id, customer_id, metric_key ORDER BY timestamp) AS after
    FROM staged WHERE ordinal IN (SELECT ordinal FROM again)
), judged AS MATERIALIZED (
    SELECT ordinal, metric_key, quantity, {evidence} FROM spaced
), loads AS MATERIALIZED (
    SELECT ingested_at FROM again GROUP BY ingested_at HAVING count(*) >= {min_evidence}
), there AS (
    SELECT coalesce(l.ingested_at, 'infinity') AS load,
        least(count(*), (SELECT count(*) FROM {stage})) AS events
    FROM {table} t
    JOIN (SELECT DISTINCT organization_id, customer_id, metric_key FROM {stage}) series
      USING (organization_id, customer_id, metric_key)
    LEFT JOIN loads l USING (ingested_at)
    LEFT JOIN pg_temp.usage_explore_known k
      ON k.organization_id = t.organization_id AND k.timestamp = t.timestamp AND k.id = t.id
    WHERE k.id IS NULL AND t.timestamp BETWEEN %(first)s AND %(last)s AND t.organization_id = ANY (%(organizations)s)
      AND EXISTS (SELECT FROM again)
    GROUP BY 1
), by_load AS MATERIALIZED (
    SELECT ordinal, coalesce(l.ingested_at, 'infinity') AS load, bool_or(with_all) AS with_all,
        bool_or(with_texts) AS with_texts, bool_or(is_common) AS is_common, bool_or(has_cost) AS has_cost
    FROM again LEFT JOIN loads l USING (ingested_at)
    GROUP BY 1, 2
), most AS MATERIALIZED (
    SELECT load, {most_with_all} AS with_all, {most_with_texts} AS with_texts, {most} AS every
    FROM by_load JOIN judged USING (ordinal) JOIN there USING (load)
    GROUP BY load, events
)
SELECT (SELECT count(*) FROM restated),
       (SELECT CASE WHEN {corrects} THEN count(*) ELSE count(*) FILTER (WHERE is_correction) END FROM restated),
       count(*) FILTER (WHERE with_all), count(*) FILTER (WHERE is_common),
       count(*) FILTER (WHERE is_common AND is_evidence),
       (SELECT count(DISTINCT ordinal) FROM by_load b JOIN most m USING (load)
        WHERE m.every OR (m.with_texts AND b.with_texts) OR (m.with_all AND b.with_all))
FROM met_rows
LEFT JOIN (SELECT ordinal, bool_or(with_all) AS with_all, bool_or(is_common) AS is_common
           FROM again GROUP BY ordinal) AS repeated USING (ordinal)
"""
"""What `Repeated` has, of staged rows where a stored row that the file does not have has the same organization, time,
metric and customer.

Restated rows equal one in all but key and amounts (quantity, cost, dimensions that are numbers named like one), and one
of the two has no key of its own; `IS_CORRECTION` says which of them are credits. Of those loaded again, too;
quantities and texts in dimensions that both loads have are equal, and one has all texts of the other's dimensions,
under any name (`with_texts`), or not. If `with_all`, labels are equal, too: documented columns, dates, and numbers that
are not named like amounts. Upper and lower case are the same. Other rows with an equal quantity may have any values and
keys, see `is_most`."""

_MET = "organization_id, timestamp, metric_key, customer_id"

SIGNS = {
    "total": "coalesce(sum(quantity), 0::numeric)",
    "lowest": "coalesce(min(quantity), 0::numeric)",
    "highest": "coalesce(max(quantity), 0::numeric)",
    "charged": "coalesce(sum(cost), 0::numeric)",
}
"""SQL for what is read of rows that are alike in all but amounts: quantities, and the total of their costs."""

IS_NEAR = "(abs(total - before) * 2::numeric <= abs(before))"
"""Whether the total of such rows of a load is that of the earlier ones, by half of it more or less: a restated one."""

IS_CORRECTION = f"""(
    lowest < 0::numeric AND low >= 0::numeric AND (lowest = - before OR NOT {IS_NEAR})
    OR low < 0::numeric AND (
        highest > 0::numeric AND high <= 0::numeric OR total <> 0::numeric AND sign(total) <> sign(before))
    OR lowest = 0::numeric AND highest = 0::numeric AND charged < 0::numeric AND paid > 0::numeric)
"""
"""Whether such rows of a load correct the earlier ones (`before`, `low`, `high` and `paid`), by their `SIGNS`.

They are the first with the other sign (a credit, or a reversal and its rebooking: -100 and 105 beside 100), or their
total has the other sign (a further credit), or the earlier ones were reversed (105 beside 100 and -100); or a credit
of the cost alone. A restated export with credits has them in both loads, 101 and -12 beside 100 and -10, or the total
stays near: 101 and -12 beside 100."""

MIN_CORRECTIONS = Decimal("0.1")
"""Share of the rows that equal stored ones in all but amounts from which all are corrections, deltas of both signs, if
most of the others are not `IS_NEAR`."""

AMOUNT_NAMES = "cost|price|quantity|amount|fee|charge|tax|discount|usage|total"
"""What names of dimensions with numbers contain that are amounts, which a restated export has otherwise."""

_COMPARED = """s.organization_id, s.timestamp, s.metric_key, s.customer_id, s.quantity, s.external_cost_amount AS cost,
    md5(ROW(s.product_id, s.subscription_id, s.price_key, s.external_cost_currency, s.wallet_currency,
        (SELECT jsonb_object_agg(key, CASE WHEN value ~ %(number)s THEN trim_scale(value::numeric)::text ELSE value END)
         FROM jsonb_each_text(s.dimensions) WHERE value !~ %(number)s OR key !~* %(amount)s))::text) AS content,
    coalesce((SELECT jsonb_object_agg(lower(key), lower(btrim(value))) FROM jsonb_each_text(s.dimensions)
              WHERE value !~ %(number)s AND value !~ %(date)s), '{}') AS texts,
    coalesce((SELECT jsonb_object_agg(lower(key), CASE WHEN value ~ %(number)s THEN trim_scale(value::numeric)::text
                  ELSE rtrim(replace(value, 'T', ' '), 'Z') END)
              FROM jsonb_each_text(s.dimensions)
              WHERE value ~ %(number)s AND key !~* %(amount)s OR value ~ %(date)s), '{}')
    || jsonb_strip_nulls(jsonb_build_object(
        'product_id ', s.product_id, 'subscription_id ', s.subscription_id, 'price_key ', s.price_key,
        'external_cost_currency ', upper(s.external_cost_currency), 'wallet_currency ', s.wallet_currency)) AS labels"""

_ALIKE = """organization_id, timestamp, metric_key, customer_id, quantity, without_key, common, labelled,
    jsonb_path_query_array(texts, '$.*') AS unnamed, count(*) OVER (
        PARTITION BY organization_id, timestamp, metric_key, customer_id, quantity, common) AS number"""

_COMMON = """(
    SELECT {name}.*, md5(coalesce((SELECT jsonb_object_agg(key, value)::text FROM jsonb_each(texts)
                                   WHERE key = ANY (SELECT unnest(keys) FROM shared)), '')) AS common,
        md5(coalesce((SELECT jsonb_object_agg(key, value)::text FROM jsonb_each(labels)
                      WHERE key = ANY (SELECT unnest(names) FROM shared)), '')) AS labelled
    FROM {name}) AS {name}"""

_MOST_PAIRS = 1_000_000
"""Pairs of rows with one customer, metric, time and quantity, and equal common dimensions, that are compared."""

_NUMBER = r"^-?[0-9]+([.][0-9]+)?$"
_DATE = "^[0-9]{4}-[0-9]{2}-[0-9]{2}"

EXPORT_GRID_SECONDS = 900
"""Seconds; exports report usage by the quarter of an hour or longer, so other times are of no export."""

MIN_EVIDENCE = 10
"""Rows that must be evidence of a load that repeats another one without all values of its dimensions."""

MIN_SHARE = Decimal("0.9")
"""Share of its rows that the other one must have."""

MIN_SHARE_OF_EVIDENCE = Decimal(1) / 3
"""Share of the repeated rows that must be evidence."""

MIN_FINE = 5
"""Rows at times finer than a millisecond that are enough: two sources hardly have one event at such a time."""

MIN_RARE = 20
"""Rows of a rare quantity that are enough at the times of hourly and daily exports, which other sources have, too."""

MIN_DIGITS = 5
"""Digits of a quantity, without zeros at its ends, that is evidence with an equal cost at any time."""

MIN_METRICS = 5
"""Metrics that must have such quantities: of a few, such as stored bytes, replicas may have equal ones."""

_EVIDENCE = """
mod(extract(microseconds FROM timestamp)::bigint, 1000::bigint) <> 0 AS is_fine,
mod(extract(epoch FROM timestamp), {grid}::numeric) <> 0::numeric AS is_off_grid,
2 * count(*) OVER (PARTITION BY {series}, quantity) * count(*) OVER (PARTITION BY {series}, timestamp)
    <= count(*) OVER (PARTITION BY {series}) AS is_rare,
10 * count(*) OVER (PARTITION BY {series}, quantity) * count(*) OVER (PARTITION BY {series}, timestamp)
    <= count(*) OVER (PARTITION BY {series}) AS is_unusual,
2 * count(*) OVER (PARTITION BY {series}, after) <= count(*) OVER (PARTITION BY {series}) AS is_irregular,
length(btrim(translate(trim_scale(quantity)::text, '-.', ''), '0')) >= {min_digits} AS is_precise
"""
"""What is known of repeated rows, which have the time `after` the one before in their series.

Rare is a quantity that chance gives few of them: at most half of the series, divided by the rows at one time, have it.
Unusual is one that a tenth have: two products or servers may have the same few quantities at each hour or day.
Irregular are those which at most half of the series follow the one before at the same distance."""

_MOST_WITH_ALL = """(
    2 * count(*) FILTER (WHERE with_all) >= {events}
    AND (count(*) FILTER (WHERE with_all AND is_fine))::numeric
        >= greatest({min_fine}::numeric, {min_share_of_evidence} * (count(*) FILTER (WHERE with_all))::numeric)
    OR (count(*) FILTER (WHERE with_all))::numeric >= {min_share} * {events}::numeric AND (
        (count(*) FILTER (WHERE with_all AND is_off_grid AND (is_rare OR is_irregular)))::numeric
            >= greatest({min_evidence}::numeric, {min_share_of_evidence} * (count(*) FILTER (WHERE with_all))::numeric)
        OR (count(*) FILTER (WHERE with_all AND is_rare))::numeric
            >= greatest({min_rare}::numeric, {min_share_of_evidence} * (count(*) FILTER (WHERE with_all))::numeric)))
"""

_MOST_WITH_TEXTS = """(
    (count(*) FILTER (WHERE with_texts))::numeric >= {min_share} * {events}::numeric AND (
        (count(*) FILTER (WHERE with_texts AND is_off_grid AND is_rare))::numeric
            >= greatest({min_evidence}::numeric,
                {min_share_of_evidence} * (count(*) FILTER (WHERE with_texts))::numeric)
        OR (count(*) FILTER (WHERE with_texts AND is_unusual))::numeric
            >= greatest({min_rare}::numeric, {min_share_of_evidence} * (count(*) FILTER (WHERE with_texts))::numeric)))
"""

_MOST = """(
    count(*)::numeric >= {min_share} * {events}::numeric AND (
        (count(*) FILTER (WHERE is_off_grid AND is_rare AND (is_common OR is_irregular)))::numeric
            >= greatest({min_evidence}::numeric, {min_share_of_evidence} * count(*)::numeric)
        OR count(DISTINCT (metric_key, quantity)) FILTER (WHERE is_precise AND has_cost) >= {min_rare}
            AND count(DISTINCT metric_key) FILTER (WHERE is_precise AND has_cost) >= {min_metrics}))
"""


_PADDED = "[.][0-9]*0[,}]|: -?0[0-9]"
_NUMBER_IN_TEXT = "(: -?)0*([0-9]+(?:[.][0-9]*[1-9])?)[.]?0*(?=[,}])"
"""A number in the text of dimensions without quotes, and whether one may have zeros that say nothing: `: 1.50,`."""


def folded(dimensions: ColumnElement[Any]) -> ColumnElement[str]:
    """The dimensions as a text that is the same for each writing: lower case, and numbers by their value.

    A CSV file has "1.50", "3" and "True" where a JSON or Parquet file or a spreadsheet has 1.5, 3 and true.
    """
    bare = func.translate(func.lower(cast(dimensions, Text)), '"', "", type_=Text())
    number = func.regexp_replace(bare, _NUMBER_IN_TEXT, r"\1\2", "g", type_=Text())
    return case((bare.regexp_match(_PADDED), number), else_=bare)  # to replace takes five times as long as to match


def corrects(over: str = "") -> str:
    """SQL for whether rows that equal earlier ones in all but amounts, of a window or all, are corrections as a whole.

    The rows have `is_correction` and `is_near`.
    """
    corrections, others = f"count(*) FILTER (WHERE is_correction){over}", f"NOT is_correction){over}"
    return (
        f"({corrections})::numeric >= {MIN_CORRECTIONS} * (count(*){over})::numeric"
        f" AND 2 * count(*) FILTER (WHERE is_near AND {others} <= count(*) FILTER (WHERE {others}"
    )


def evidence(series: str) -> str:
    """SQL for the columns of `_EVIDENCE`; `series` are the columns of a customer's metric."""
    return _EVIDENCE.format(series=series, grid=EXPORT_GRID_SECONDS, min_digits=MIN_DIGITS)


def is_most(of: Literal["with_all", "with_texts", "every"], *, events: str) -> str:
    """SQL for whether a group of repeated rows is most of the `events` that an earlier load has in their time.

    The rows are those `with_all` values of the dimensions, or `with_texts`, or all. They have the columns of
    `evidence`, and whether they have no other text in a dimension that both loads have (`is_common`), and an equal cost
    (`has_cost`). By exact times half of the events is enough, else nine tenths: a file that grew, or a moving window,
    repeats each of them. Rows with other labels or texts need quantities that are no coincidence: two products may
    have 10 seats on each day, and two replicas as many bytes at each hour.
    """
    return {"with_all": _MOST_WITH_ALL, "with_texts": _MOST_WITH_TEXTS, "every": _MOST}[of].format(
        events=events,
        min_fine=MIN_FINE,
        min_evidence=MIN_EVIDENCE,
        min_rare=MIN_RARE,
        min_metrics=MIN_METRICS,
        min_share=MIN_SHARE,
        min_share_of_evidence=round(MIN_SHARE_OF_EVIDENCE, 4),
    )


class Repeated(NamedTuple):
    """Numbers of rows that are `restated`, and of others that may be of an earlier load, with other columns.

    Of the restated ones, `credits` correct stored rows, all of them if the file does as a whole. Of the others, one has
    all values of the dimensions of a row of that load (`with_all`), or they may lack some (`again`). Of the latter,
    `evidence` have a time between the quarters of an hour, and a quantity that at most half of their customer's metric
    have, as two sources hardly give alike. `of_most` are most of what an earlier load has in their time.
    """

    restated: int = 0
    credits: int = 0
    with_all: int = 0
    again: int = 0
    evidence: int = 0
    of_most: int = 0

    def loaded_again(self, rows: int) -> int:
        """The rows that are loaded again; 0 where they are so few of `rows` that they may be rows of their own."""
        is_sure = self.evidence >= MIN_EVIDENCE and self.evidence >= MIN_SHARE_OF_EVIDENCE * self.again
        if is_sure and self.again >= MIN_SHARE * rows:
            return self.again
        return self.with_all if 2 * self.with_all >= rows else self.of_most


PATTERNS = {"number": _NUMBER, "date": _DATE, "amount": AMOUNT_NAMES}
"""The parameters of `statement` that it has beside the span."""


def statement(stage: sql.Composable, table: sql.Composable) -> sql.Composed:
    """The statement that counts the rows of the stage as `Repeated` has them."""
    staged, stored = (sql.SQL(_COMMON).format(name=sql.SQL(name)) for name in ("staged", "stored"))
    return sql.SQL(_RESTATED).format(
        stage=stage,
        table=table,
        compared=sql.SQL(_COMPARED),
        alike=sql.SQL(_ALIKE),
        staged=staged,
        stored=stored,
        most_pairs=sql.Literal(_MOST_PAIRS),
        min_evidence=sql.Literal(MIN_EVIDENCE),
        evidence=sql.SQL(evidence("organization_id, customer_id, metric_key")),
        met=sql.SQL(_MET),
        is_correction=sql.SQL(IS_CORRECTION),
        is_near=sql.SQL(IS_NEAR),
        corrects=sql.SQL(corrects()),
        **{name: sql.SQL(text) for name, text in SIGNS.items()},
        most_with_all=sql.SQL(is_most("with_all", events="events")),
        most_with_texts=sql.SQL(is_most("with_texts", events="events")),
        most=sql.SQL(is_most("every", events="events")),
        grid=sql.Literal(EXPORT_GRID_SECONDS),
    )
