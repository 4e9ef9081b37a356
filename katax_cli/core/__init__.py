"""Decisions as functions of values: no driver, no I/O; only `clock` knows what time it is."""
