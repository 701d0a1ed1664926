"""Tests of the app in a real browser: a package, as they share one browser per process."""
