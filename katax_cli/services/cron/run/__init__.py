"""One run of a job: planned, started, watched, reported."""
