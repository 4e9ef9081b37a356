"""The object for one named connection, for each kind of server. Floor 2."""
