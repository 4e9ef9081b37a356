"""Statements typed one by one on one connection: SQL, Redis and MongoDB; the servers' own clients."""
