"""The state database: schema, store, reporter, circuits. Floor 4."""
