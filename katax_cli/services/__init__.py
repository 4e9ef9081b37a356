"""Use cases: they take values, return values, and never print."""
