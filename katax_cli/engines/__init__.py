"""Engines talk to one kind of server each; they do not know each other."""
