"""How large a question and its answer may be: every bound in one place, the same at every door.

Beyond a bound there is an error that names the parameter and the bound; only the window is shortened instead, and the
answer says so. Any answer's `events_at` stays within them: the rows behind Other exclude every kept series, so
`top` counts together with the filter values, and `group_by` together with the dimensions.
"""

from __future__ import annotations

MAX_AGGREGATE_BUCKETS = 2_400
"""How many buckets one aggregate may touch; a longer window starts later."""

MAX_POINTS = 200_000
"""How many points (series × buckets) one answer may have."""

MAX_PICTURE_POINTS = 20_000
"""How many points a picture over HTTP may have."""

MAX_TOP = 1_000
"""How many series may be kept beside Other; `top=0` keeps all."""

MAX_VALUES = 1_000
"""How many values all filters of a question may have together, `top` counted in where there is a grouping."""

MAX_DIMENSIONS = 50
"""How many different dimension keys a question may name, `group_by` included."""

MAX_VALUE_BYTES = 65_536
"""How long one value may be, in bytes of UTF-8."""

MAX_KEY_BYTES = 1_000
"""How long the key of a dimension may be, in bytes of UTF-8."""

MAX_QUERY_STRING_BYTES = 65_536
"""How many bytes a query string may have."""

MAX_PARAMETERS = 1_100
"""How many `name=value` pairs a query string may have: as many as any question has, and some."""

MAX_UPLOAD_MEGABYTES = 20
"""How large a file may be that is dropped in the app."""
