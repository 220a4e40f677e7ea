"""What is ours of RQ: the worker class, and the job class that trusts nothing in Redis."""
