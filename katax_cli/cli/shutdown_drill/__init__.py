"""`katax shutdown-test`."""
