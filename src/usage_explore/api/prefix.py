"""Where the API is mounted beside the app."""

PREFIX = "/api"
