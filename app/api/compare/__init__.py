"""Comparison of finished jobs."""
