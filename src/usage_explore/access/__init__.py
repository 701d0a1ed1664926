"""Access control: API keys, the allow list, the check before listening beyond this machine; and logs."""
