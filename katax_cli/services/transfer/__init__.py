"""Rows between files and tables, and between tables of two connections. Floor 7."""
