"""The app, for `streamlit run app.py`; `usage-explore app` serves the same one without a checkout."""

from usage_explore.app.main import run

run()
