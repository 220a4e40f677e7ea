"""Weights: the directory that holds them, the hub that they come from, and random ones to try things with."""
