"""The sandbox in which untrusted audio is decoded."""
