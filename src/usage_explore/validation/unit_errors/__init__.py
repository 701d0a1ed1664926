"""unit_errors."""
