"""The way of each engine: its tool writes into the folder of a backup, and all of it is read to prove it."""
