"""`katax cache`."""
