"""The check of costs for a unit."""
