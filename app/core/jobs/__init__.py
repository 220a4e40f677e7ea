"""Jobs: the record of each, its state machine, and the queue that carries ids to the workers."""
