"""A database with users, to which the models are bound."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from katax_cli import Model, SqlDatabase
from katax_cli.services.runtime.runtime import Runtime
from tests.servers.fixtures import Target
from tests.services.databases.models.people import create_tables
from tests.services.profiles import profile


@pytest.fixture
def db(sql_engine: Target, tmp_path: Path) -> Iterator[SqlDatabase]:
    with Runtime(profile(tmp_path, {"main": sql_engine.url})) as runtime:
        made = cast(SqlDatabase, runtime.database("main"))
        create_tables(made)
        Model.bind(made)
        yield made
        Model.bind(None)
