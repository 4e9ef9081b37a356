"""`katax cron`."""
