"""Engines whose calls are made for tasks: what waits in another way than in threads, and nothing else."""
