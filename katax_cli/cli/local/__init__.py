"""`katax local`."""
