"""Chaos that runs for minutes, on demand: `make soak` runs all, `make soak ARGS=cron` one."""
