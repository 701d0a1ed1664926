"""The `usage-explore` command."""
