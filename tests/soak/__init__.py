"""Chaos that runs for minutes, on demand: `make soak ARGS=cron`."""
