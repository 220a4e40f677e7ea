"""Ports for servers that a test starts."""

import socket


def free_port(host: str) -> int:
    """A port that is free at this moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
