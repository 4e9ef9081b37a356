"""`katax lock`."""
