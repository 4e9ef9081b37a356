"""`katax circuit`."""
