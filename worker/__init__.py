"""The scoring worker: it takes job ids from RQ, runs the model, and writes the outcome into the job record."""
