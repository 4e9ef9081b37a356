"""Programs that katax runs, and the end of their process trees. Floor 1."""
