"""The HTTP door: the same questions, answers and errors as the package, under `/api`."""

from usage_explore.api.application import create_app
from usage_explore.api.threads import Limits

__all__ = ["Limits", "create_app"]
