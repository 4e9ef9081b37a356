"""`katax pubsub`."""
