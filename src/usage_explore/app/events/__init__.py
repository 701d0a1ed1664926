"""The Events page."""
