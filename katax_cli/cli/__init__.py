"""The command line: thin commands, the only place with exit codes and stdout."""
