"""APEX scoring as a library: PCM in, seven scores out. It knows nothing of HTTP, RQ or Redis."""
