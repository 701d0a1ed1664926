"""Statements: built without a connection."""
