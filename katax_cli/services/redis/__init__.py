"""Services on one Redis: keys, sessions, limits, records, pub/sub. Floor 3."""
