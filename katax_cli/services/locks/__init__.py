"""Locks on Redis and SQL servers: acquiring, listing, running programs under them. Floor 5."""
