"""Test jobs: those of test keys. They get made-up scores and touch no model, no worker and no queue."""
