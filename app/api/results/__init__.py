"""Results of many jobs, as lines of CSV or JSON."""
