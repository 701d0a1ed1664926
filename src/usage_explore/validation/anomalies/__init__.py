"""The check of spikes, drops and new levels."""
