"""Access: API keys, the allow list, the check of the address to bind, logs."""
