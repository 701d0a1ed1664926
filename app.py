"""The app and the API, for `streamlit run app.py`; `usage-explore app` serves the same ones without a checkout."""

from streamlit import App

from usage_explore.access.logs import to_standard_error
from usage_explore.app import main
from usage_explore.cli.app_server import MIDDLEWARE, routes

to_standard_error()
app = App(main.__file__, routes=routes(), middleware=MIDDLEWARE)
