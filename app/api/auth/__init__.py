"""Who calls, and how much they may use: API keys, scopes and rate limits."""
