"""Redis: its URL, what went wrong with it, and whether this service can work with it."""
