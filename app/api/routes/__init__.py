"""Routes: each parses a request, calls what does the work, and returns a response."""
