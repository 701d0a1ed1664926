"""The HTTP API under `/api`: the same queries, answers and errors as the package."""

from usage_explore.api.application import PREFIX, create_app
from usage_explore.api.service import Limits

__all__ = ["PREFIX", "Limits", "create_app"]
