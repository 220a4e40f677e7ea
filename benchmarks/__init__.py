"""Measurements. Each is a module to run."""

import os

# As in the decoding child: threads that spin on small products would count as work.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
