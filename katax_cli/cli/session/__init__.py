"""`katax session`."""
