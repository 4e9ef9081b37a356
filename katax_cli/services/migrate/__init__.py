"""Migrations: files, the ledger of what was applied, one runner at a time, exactly once."""
