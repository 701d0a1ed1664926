"""Control totals: what the gateway, the provider or its bill counted by day, compared with the events."""
