"""The rollup: events counted and summed ahead, by two times, so that answers are fast and stay exact.

One row holds how many events, and their quantity, share (organization, dimension, value, metric key, slot of
`timestamp`, slot of `ingested_at`). Because the time of ingestion is part of the key, what was ingested before the
*watermark* never changes: a late event adds rows to a later slot of ingestion instead of making old ones stale.

    tables      the rows, and the catalogue of what is kept and up to which watermark
    serving     pure: whether and how the rollup answers a question
    choice      which dimensions are kept, at which grain, measured from the data
    watermark   up to when every transaction has ended
    refresh     bring the rows up to the watermark; rebuild a part of them
    verify      compare with the events
"""
