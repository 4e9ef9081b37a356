"""A profile with a state database on each SQL engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile
from katax_cli.services.cron.definition.definitions import Definitions
from katax_cli.services.cron.ledger.store import Runs
from katax_cli.services.runtime.runtime import Runtime
from katax_cli.services.state.schema import Tables, state_profile
from tests.cli.harness import write_profile
from tests.servers.fixtures import Target

OpenTables = Callable[[], Tables]


@pytest.fixture
def profile(tmp_path: Path, sql_engine: Target) -> Profile:
    """Its state database is `main`, on each SQL engine in turn."""
    write_profile(tmp_path, {"main": sql_engine.url}, extra='[state]\nurl = "main"\n')
    return load_profile("test")


@pytest.fixture
def open_tables(profile: Profile) -> Iterator[OpenTables]:
    """The tables, through a pool of their own for every caller, as daemons have them."""
    with ExitStack() as stack:

        def make() -> Tables:
            runtime = stack.enter_context(Runtime(state_profile(profile)))
            tables = Tables(runtime.sql(profile.state.connection), profile.name)
            tables.prepare()
            return tables

        yield make


@pytest.fixture
def tables(open_tables: OpenTables) -> Tables:
    return open_tables()


@pytest.fixture
def runs(tables: Tables) -> Runs:
    return Runs(tables)


@pytest.fixture
def definitions(tables: Tables) -> Definitions:
    return Definitions(tables)
