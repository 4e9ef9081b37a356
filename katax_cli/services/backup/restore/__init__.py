"""Restoring backups: into a database beside, proven before it gets its name; and drills of that."""
