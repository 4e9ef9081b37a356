"""Decisions about failures: backoff, retry, breaker, deadlines, shutdown. Imports the clock and `errors`."""
