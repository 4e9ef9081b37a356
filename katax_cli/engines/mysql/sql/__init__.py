"""SQL of use cases, one module for each: `SQL` is a value of `engines.sql`."""
