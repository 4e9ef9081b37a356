"""Scheduled jobs: every occurrence is accounted for by one row."""
