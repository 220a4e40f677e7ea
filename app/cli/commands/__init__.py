"""What the commands of `apex` do. Each module is imported only when its command runs."""
