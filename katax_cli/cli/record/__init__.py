"""`katax record`."""
