"""Work on whole tables: scripts, truncate, reset. Floor 3."""
