"""`katax db`."""
