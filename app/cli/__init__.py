"""`apex`, the command line."""
