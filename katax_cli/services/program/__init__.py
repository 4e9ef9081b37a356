"""The container of an embedding program, its configuration, logger, jobs, sockets and shutdown. Floor 8."""
