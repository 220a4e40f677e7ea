"""Scoring and embedding whole catalogues on Ray, bucket by bucket."""
