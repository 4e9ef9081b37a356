"""When jobs are due: crontab fields, time zones, daylight saving. Imports the clock and `errors`."""
