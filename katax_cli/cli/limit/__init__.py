"""`katax limit`."""
