"""Bounds of queries and answers, the same in Python, over HTTP, in the app and in links.

Beyond a bound there is an error that names the parameter and the bound; only a window with too many buckets is
shortened, and the answer says so (`capped`). `Aggregate.events_at` stays within the bounds: the query for the rows
behind Other excludes every kept series, so `top` counts as filter values and `group_by` as a dimension.
"""

from __future__ import annotations

MAX_AGGREGATE_BUCKETS = 2_400
"""Buckets of an aggregate; a longer window starts later."""

MAX_METRIC_KEYS = 1_000
"""Metrics of a result whose units are looked up; a sum over more has no unit."""

MAX_POINTS = 200_000
"""Points (series × buckets) of an answer."""

MAX_PICTURE_POINTS = 20_000
"""Points (series × buckets) of a picture over HTTP."""

MAX_TOP = 1_000
"""Series kept beside Other; `top=0` keeps all."""

MAX_LEADERS = 50
"""Values of each leaderboard."""

MAX_LEADERBOARD_DIMENSIONS = 50
"""Dimension keys that have a leaderboard: those of most events."""

MAX_CHOICES = 100_000
"""Values of a group that one list of choices has."""

MAX_NAMES = 1_000
"""Names that one search of the directory has over HTTP."""

MAX_VALUES = 1_000
"""Values in all filters of a query together, plus `top` unless `group_by` is `none`."""

MAX_DIMENSIONS = 50
"""Different dimension keys of a query, `group_by` included."""

MAX_VALUE_BYTES = 65_536
"""Bytes of one value in UTF-8."""

MAX_DECIMAL_DIGITS = 1_000
"""Digits before and after the point of a decimal parameter, such as `quantity_min`."""

MAX_KEY_BYTES = 1_000
"""Bytes of a dimension's key in UTF-8."""

MAX_QUERY_STRING_BYTES = 65_536
"""Bytes of a query string."""

MAX_PARAMETERS = 1_100
"""`name=value` pairs of a query string: more than any valid query has."""

MAX_UPLOAD_MEGABYTES = 20
"""Size of a file that is uploaded in the app."""
