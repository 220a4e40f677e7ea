"""Uploads: request bodies parsed as they arrive and written to storage."""
