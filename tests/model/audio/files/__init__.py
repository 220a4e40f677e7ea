"""Audio files that tests make: odd ones, hostile ones, and those of many channels."""
