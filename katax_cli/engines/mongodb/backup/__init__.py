"""Backups: what there is to back up, and how it is copied or a tool is told where it is."""
