"""Probes of connections, from bare sockets to verdicts, and the HTTP server of their results. Floor 7."""
