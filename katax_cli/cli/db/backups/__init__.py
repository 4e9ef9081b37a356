"""`katax db backup` and `katax db backups`."""
