"""The check of quantities in another unit."""
