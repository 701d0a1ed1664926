"""A validation as lines on a terminal, as a JSON document, and as one self-contained HTML page to sign off."""

from usage_explore.validation.report.documents import document, html
from usage_explore.validation.report.terminal import lines
from usage_explore.validation.report.wording import Statement, disagreement, statements, unexamined

__all__ = ["Statement", "disagreement", "document", "html", "lines", "statements", "unexamined"]
