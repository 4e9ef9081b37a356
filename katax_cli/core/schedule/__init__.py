"""Schedules: crontab fields, time zones, daylight saving. Imports the clock and `errors`."""
