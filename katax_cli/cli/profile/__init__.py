"""`katax profile`."""
