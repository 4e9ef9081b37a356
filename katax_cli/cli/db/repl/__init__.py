"""`katax db shell`: reading lines, running what they say, and the commands that begin with a backslash."""
