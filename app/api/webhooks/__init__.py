"""Webhooks as their owners see them: where they may go, what came of them, a test."""
