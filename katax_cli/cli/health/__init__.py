"""`katax health`."""
