"""`katax help`, `katax options` and `katax version`; manual pages from the same tree."""
