"""PostgreSQL through psycopg."""

from katax_cli.engines.postgresql.engine import PostgresEngine as PostgresEngine
from katax_cli.engines.postgresql.engine import create as create
