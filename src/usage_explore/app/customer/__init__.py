"""The Customer page: the story of one customer."""
