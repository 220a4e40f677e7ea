"""Scans of untrusted containers, one module a container: where the audio is, and whether part of it is missing.

Run in the decoding child, before a decoder sees the file.
"""
