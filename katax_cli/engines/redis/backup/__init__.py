"""Backups: which server it is, and how much room it has."""
