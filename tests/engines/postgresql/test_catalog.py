"""What the catalogues of PostgreSQL say about tables, columns, indexes and the server."""

from collections.abc import Iterator

import pytest

from katax_cli.engines.postgresql import PostgresEngine, create
from katax_cli.engines.postgresql.session import PostgresConnection
from tests.engines.connections import settings_for
from tests.servers import Server

SCHEMA = (
    "CREATE SCHEMA shop",
    'CREATE TABLE shop."Odd.Name" (id int)',
    """CREATE TABLE customers (
        id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        email varchar(80) NOT NULL UNIQUE,
        name text DEFAULT 'nobody',
        lowered text GENERATED ALWAYS AS (lower(email)) STORED,
        dropped int)""",
    "ALTER TABLE customers DROP COLUMN dropped",
    "CREATE INDEX customers_names ON customers (lower(name), id DESC) INCLUDE (email) WHERE name IS NOT NULL",
    """CREATE TABLE shop.orders (
        customer bigint REFERENCES customers, line int, at timestamptz NOT NULL, note text,
        PRIMARY KEY (customer, line))""",
    "CREATE INDEX orders_at ON shop.orders (at)",
    "CREATE TABLE parts (id int, at date) PARTITION BY RANGE (at)",
    "CREATE TABLE parts_2024 PARTITION OF parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
    "INSERT INTO parts SELECT g, '2024-05-05' FROM generate_series(1, 500) g",
    "CREATE VIEW names AS SELECT name FROM customers",
    "CREATE MATERIALIZED VIEW seen AS SELECT 1 AS one",
    "CREATE TEMP TABLE scratch (id int)",
    "ANALYZE parts",
)


@pytest.fixture
def engine(postgresql_url: str) -> PostgresEngine:
    return create(settings_for(postgresql_url))


@pytest.fixture
def connection(engine: PostgresEngine) -> Iterator[PostgresConnection]:
    connection = engine.connect(60.0)
    for statement in SCHEMA:
        engine.execute(connection, statement)
    yield connection
    engine.close(connection)


def test_tables(engine: PostgresEngine, connection: PostgresConnection) -> None:
    tables = engine.tables(connection, 5.0)
    assert [(t.schema, t.name, t.kind) for t in tables] == [
        ("public", "customers", "table"),
        ("public", "names", "view"),
        ("public", "parts", "partitioned table"),
        ("public", "seen", "materialized view"),
        ("shop", "Odd.Name", "table"),
        ("shop", "orders", "table"),
    ]
    by_name = {table.name: table for table in tables}
    assert by_name["parts"].rows_estimate == 500
    assert (by_name["parts"].size_bytes or 0) >= 8192
    assert by_name["customers"].rows_estimate is None
    assert (by_name["names"].rows_estimate, by_name["names"].size_bytes) == (None, None)


def test_columns(engine: PostgresEngine, connection: PostgresConnection) -> None:
    found = engine.describe(connection, "customers", 5.0)
    assert found is not None
    assert found.table.kind == "table"
    assert [tuple(column) for column in found.columns] == [
        ("id", "bigint", False, "generated always as identity", "primary", None),
        ("email", "character varying(80)", False, None, "unique", None),
        ("name", "text", True, "'nobody'::text", None, None),
        ("lowered", "text", True, "generated always as (lower((email)::text))", None, None),
    ]


def test_indexes(engine: PostgresEngine, connection: PostgresConnection) -> None:
    found = engine.describe(connection, "public.customers", 5.0)
    assert found is not None
    assert [(i.name, i.columns, i.unique) for i in found.indexes] == [
        ("customers_email_key", ("email",), True),
        ("customers_names", ("lower(name)", "id"), False),
        ("customers_pkey", ("id",), True),
    ]
    assert found.indexes[1].definition == (
        "CREATE INDEX customers_names ON public.customers USING btree (lower(name), id DESC)"
        " INCLUDE (email) WHERE (name IS NOT NULL)"
    )


def test_keys_and_references(engine: PostgresEngine, connection: PostgresConnection) -> None:
    found = engine.describe(connection, "shop.orders", 5.0)
    assert found is not None
    assert [(c.name, c.key, c.references) for c in found.columns] == [
        ("customer", "primary", "customers(id)"),
        ("line", "primary", None),
        ("at", "index", None),
        ("note", None, None),
    ]


@pytest.mark.parametrize("name", ["shop.Odd.Name", 'shop."Odd.Name"', "names", "seen", "parts", "scratch"])
def test_found_by_name(engine: PostgresEngine, connection: PostgresConnection, name: str) -> None:
    found = engine.describe(connection, name, 5.0)
    assert found is not None
    assert found.columns


@pytest.mark.parametrize(
    "name", ["orders", "nope", "no.pe", "", '"', '""', "a'; DROP TABLE customers; --", 'x"y"z']
)
def test_not_found(engine: PostgresEngine, connection: PostgresConnection, name: str) -> None:
    assert engine.describe(connection, name, 5.0) is None


def test_by_the_search_path(engine: PostgresEngine, connection: PostgresConnection) -> None:
    engine.execute(connection, "SET search_path = shop")
    assert engine.describe(connection, "orders", 5.0) is not None
    assert engine.describe(connection, "customers", 5.0) is None


def test_server(engine: PostgresEngine, connection: PostgresConnection, postgresql: Server) -> None:
    facts = engine.server(connection, 5.0)
    assert str(facts["version"]) == postgresql.version.split(" ")[0]
    assert facts["role"] == "primary"
    assert facts["database"] == engine.settings.database
    assert isinstance(facts["connections"], int)
    assert isinstance(facts["max_connections"], int)
    assert 1 <= facts["connections"] <= facts["max_connections"]
