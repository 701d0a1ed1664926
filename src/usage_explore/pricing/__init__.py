"""Price books, and usage rated by them: the expected amounts of a period."""
