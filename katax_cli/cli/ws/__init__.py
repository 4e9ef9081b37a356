"""`katax ws`."""
