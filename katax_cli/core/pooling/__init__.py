"""Decisions of a connection pool and what is left of a server's limits. Imports the clock and `errors`."""
