"""Webhooks: events that are told to receivers; the outbox that holds them, and the secrets that sign them."""
