"""Submissions: from the headers of `POST /score` and `POST /batches` to a durable job."""
