"""The two networks, MERT and the APEX head, and the checkpoint files that they are read from."""
