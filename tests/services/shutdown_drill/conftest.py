"""A ground for drills on each engine."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from tests.promises.witness import mysql_connection
from tests.servers.fixtures import MakeFresh
from tests.services.shutdown_drill.drilling import Ground


@pytest.fixture
def postgresql_ground(tmp_path: Path, fresh: MakeFresh) -> Ground:
    url = fresh("postgresql").url
    with psycopg.connect(url) as connection:
        connection.execute("create table work (n int)")
    return Ground(tmp_path, url)


@pytest.fixture
def mysql_ground(tmp_path: Path, fresh: MakeFresh) -> Ground:
    url = fresh("mysql").url
    with mysql_connection(url) as connection, connection.cursor() as cursor:
        cursor.execute("create table work (n int)")
    return Ground(tmp_path, url)


@pytest.fixture
def redis_ground(tmp_path: Path, fresh: MakeFresh) -> Ground:
    return Ground(tmp_path, fresh("redis").url)
