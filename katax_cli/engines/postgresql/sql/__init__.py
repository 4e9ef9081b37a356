"""SQL of use cases, one module for each: `create(engine)` returns the value of `engines.sql`."""
