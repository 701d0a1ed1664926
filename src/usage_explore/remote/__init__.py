"""The store of a usage-explore server: the Python API over HTTP, with the answers and errors of a local store."""
