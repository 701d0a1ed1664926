"""The app and the API in one process: what `usage-explore app` serves."""

from pathlib import Path

from streamlit import App

from usage_explore.serving import mount

app = App(Path(__file__).with_name("main.py"), routes=[mount()])
