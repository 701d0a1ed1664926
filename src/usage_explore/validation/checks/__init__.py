"""The checks of one module."""
