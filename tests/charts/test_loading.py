"""Charts that are drawn while another thread of the process loads pandas."""

from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import importlib, sys, threading
from datetime import UTC, datetime
from usage_explore import charts

class Slow:
    def find_spec(self, name, *_):
        if name == "pandas._libs":  # pandas is among the loaded modules, and has nothing yet
            started.set()
            drawn.wait(60)

def load():
    importlib.import_module("pandas")
    started.set()

started, drawn = threading.Event(), threading.Event()
sys.meta_path.insert(0, Slow())
loading = threading.Thread(target=load)
loading.start()
started.wait()
try:
    charts.mark(datetime(2026, 9, 1, tzinfo=UTC), "price change").to_dict()
    print("drawn")
finally:
    drawn.set()
    loading.join()
"""


def test_a_chart_does_not_meet_a_pandas_that_another_thread_is_loading() -> None:
    """The first picture of a server was 500: "partially initialized module 'pandas' has no attribute 'Timestamp'"."""
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.stdout == "drawn\n", done.stderr
