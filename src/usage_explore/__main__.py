"""`python -m usage_explore` is the `usage-explore` command."""

from usage_explore.cli.main import main

main(prog_name="usage-explore")
