"""Where backups are: a folder of this machine, or a prefix of an object store; the same questions to both."""
