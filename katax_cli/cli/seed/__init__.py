"""`katax seed`."""
