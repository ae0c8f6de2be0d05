"""What is found and how good it is: exact search, metrics with intervals, copies, coverage, the order of a backfill."""
