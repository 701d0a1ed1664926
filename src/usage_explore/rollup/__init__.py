"""The rollup: events counted and summed ahead, by two times, so that answers are fast and stay exact.

One row holds how many events, and their quantity, share (organization, dimension, value, metric key, slot of
`timestamp`, slot of `ingested_at`). Because the time of ingestion is part of the key, what was ingested before the
*watermark* never changes: a late event adds rows to a later slot of ingestion instead of making old ones stale.

    catalog             the catalogue of what is kept and up to which watermark; the statement that makes the rows
    choose_dimensions   which dimensions are kept, at which grain, measured from the data
    watermark           up to when every transaction has ended
    refresh             bring the rows up to the watermark; rebuild a part of them
    refresh_run         the whole of a refresh; what is set by hand
    schedule            refreshes by TimescaleDB's jobs
    routing             whether the rollup or the events answer a query
    status              what there is; comparison with the events
"""
