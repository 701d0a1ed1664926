"""Pages that are rendered whole, without Streamlit: shared links at `/s/`, and charts for frames at `/embed`.

A page holds the answer to one query and no script, so nothing that its client sends changes the query. `heads` writes
the head by which other programs show a link: title, description and picture.
"""

from usage_explore.web.routes import routes

__all__ = ["routes"]
