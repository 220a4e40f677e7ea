"""What the benchmarks compare with: what one would use instead of this service."""
