"""Backups: what there is to back up, and how it is copied."""
