"""Servers: uvicorn, the app beside the API, connection bounds."""
