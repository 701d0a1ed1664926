"""Invoice lines compared with the usage."""
