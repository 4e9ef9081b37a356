"""`katax migrate`."""
