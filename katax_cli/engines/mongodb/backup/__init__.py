"""Backups: what there is to back up, and how the tool is called."""
