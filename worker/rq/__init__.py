"""RQ, adapted: the worker class, and a job class that trusts nothing in Redis."""
