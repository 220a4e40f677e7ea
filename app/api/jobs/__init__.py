"""Reading jobs: responses, lists, waiting, events."""
