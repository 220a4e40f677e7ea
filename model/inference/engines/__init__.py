"""Engines: what runs MERT's forward pass. Every engine gives the same numbers; they differ in speed."""
