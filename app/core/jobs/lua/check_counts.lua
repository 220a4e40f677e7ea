-- Have the counts of what waits agree with the queue.
--
-- Arguments: record_prefix.
check_counts()
return 1
