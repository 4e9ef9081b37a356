"""`katax completion`: scripts generated from the command tree."""
