"""`katax dashboard`."""
