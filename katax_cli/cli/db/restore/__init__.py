"""`katax db restore` and `katax db backups drill`."""
