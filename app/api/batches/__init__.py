"""Batches: jobs that are followed together."""
