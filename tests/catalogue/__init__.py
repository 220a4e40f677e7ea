"""Whole catalogues scored while drivers, actors and nodes are killed."""
