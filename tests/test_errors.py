"""All errors are in one tree; they cross to other processes with their facts, their notes and what caused them."""

import pickle
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from inspect import Parameter, signature
from pkgutil import walk_packages
from typing import Any

import pytest

import katax_cli
from katax_cli.errors import KataxError, QueryError, unknown_name

_SAMPLES: dict[str, Any] = {"known": ("a", "b"), "works_on": ("x", "y"), "command": ("false", "-x")}
_NUMBERS = (
    "count",
    "waited",
    "active",
    "max",
    "waiting",
    "limit",
    "window",
    "retry_after",
    "reset_at",
    "seconds",
)


ELSEWHERE = {
    "core.resilience.retry.UnwantedResult": "it is handed to on_retry and never raised",
    "cli.db.repl.loop.Cancelled": "ends a typed statement inside the shell, which goes on",
    "cli.app.Terminated": "the signal SIGTERM, which no `except Exception` may catch",
    "core.sql.placeholders.PlaceholderError": "a wrong argument of the program: a ValueError",
    "engines.base.SessionRemains": "told to the pool, which closes the session",
    "engines.mongodb.failures.MongoNotSent": "the driver's error, told apart: it is classified as one",
    "engines.mongodb.failures.PartlyDone": "the driver's error, told apart: it is classified as one",
    "engines.postgresql.failures.ConnectFailed": "the driver's error, told apart: it is classified as one",
    "engines.postgresql.failures.PostgresNotSent": "the driver's error, told apart: it is classified as one",
    "engines.redis.connection.RedisNotSent": "the driver's error, told apart: it is classified as one",
    "engines.postgresql.failures.StandbyRefused": "the driver's error, told apart: it is classified as one",
    "profiles.model.connections.Flaw": "a key and its flaw; the reader of the profile adds the place",
    "profiles.model.validate._Wrong": "stays in its module, which adds key and place",
    "services.backup.manifest._ManifestFlaw": "stays in its module: a reason of BackupDamaged",
    "services.calls.left_behind.BoundedCallTimeout": "a TimeoutError that the guard of calls translates",
    "services.databases.database.ConnectTimeout": "a TimeoutError that the guard of calls translates",
    "services.databases.transaction.RowRefused": "the number of a row, which the seeder makes a line of its file",
    "services.health.bare_connection._LayerFailed": "stays in its module: a check that failed",
    "services.migrate.verify._Undo": "stays in its module: rolls a transaction back",
    "services.seeds.upsert._ReadOtherwise": "stays in its module: leads to the slower way",
    "services.ws.client._Lost": "stays in its module: leads to the next connection",
}
"""Exception classes outside `katax_cli.errors`, with the reason."""


def below(root: type[BaseException]) -> list[type[BaseException]]:
    """A class and all that derive from it, once each, wherever they are defined."""
    for module in walk_packages(katax_cli.__path__, "katax_cli."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    waiting, classes = [root], {root: None}
    while waiting:
        derived = [cls for cls in waiting.pop().__subclasses__() if cls not in classes]
        classes.update(dict.fromkeys(derived))
        waiting += derived
    return list(classes)


def every_error() -> list[type[KataxError]]:
    return [cls for cls in below(KataxError) if issubclass(cls, KataxError)]


def sample(cls: type[KataxError]) -> KataxError:
    """One of the class, with a value for each fact."""
    if cls.__init__ is KataxError.__init__:
        return cls("a reason")
    positional, named = [], {}
    for parameter in list(signature(cls).parameters.values()):
        value = _SAMPLES.get(parameter.name, 7 if parameter.name in _NUMBERS else f"some {parameter.name}")
        if parameter.kind is Parameter.KEYWORD_ONLY:
            named[parameter.name] = value
        elif parameter.kind is Parameter.POSITIONAL_OR_KEYWORD:
            positional.append(value)
    return cls(*positional, **named)


def fail() -> None:
    try:
        raise ValueError("relation does not exist")
    except ValueError as cause:
        error = QueryError("main", "no such table", code="42P01")
        error.add_note("line 1: select")
        raise error from cause


def test_every_error_pickles_with_its_facts() -> None:
    for cls in every_error():
        error = sample(cls)
        error.add_note("a note")

        copy = pickle.loads(pickle.dumps(error))

        assert (type(copy), str(copy), vars(copy)) == (cls, str(error), vars(error)), cls
        assert copy.__notes__ == ["a note"]
        assert copy.__cause__ is None


def test_no_error_is_defined_outside_of_the_tree_without_a_reason() -> None:
    outside = {
        f"{cls.__module__}.{cls.__qualname__}".removeprefix("katax_cli."): issubclass(cls, KataxError)
        for cls in below(BaseException)
        if cls.__module__.startswith("katax_cli.") and cls.__module__ != "katax_cli.errors"
    }

    assert sorted(outside.keys() - ELSEWHERE.keys()) == []
    assert sorted(ELSEWHERE.keys() - outside.keys()) == [], "these are gone"
    assert [name for name, is_ours in outside.items() if is_ours] == [], "these belong into the tree"


def test_a_traceback_names_the_path_from_which_programs_import_an_error() -> None:
    modules = {cls.__module__ for cls in every_error() if cls.__name__ in katax_cli.errors.__all__}

    assert modules == {"katax_cli.errors"}


def test_the_tree_in_the_docstring_names_every_error() -> None:
    lines = (katax_cli.errors.__doc__ or "").splitlines()
    drawn = {word for line in lines for word in line.replace("─", " ").replace("│", " ").split()}

    public = {cls.__name__ for cls in every_error() if not cls.__name__.startswith("_")}
    ours = {cls.__name__ for cls in every_error() if cls.__module__.startswith("katax_cli")}
    assert sorted((public & ours) - drawn) == []


def test_an_error_of_a_worker_process_arrives_whole() -> None:
    """One that does not unpickle breaks the pool for everybody in it."""
    with ProcessPoolExecutor(1) as pool:
        with pytest.raises(QueryError) as raised:
            pool.submit(fail).result()
        assert pool.submit(len, "four").result() == 4

    error = raised.value
    assert str(error) == "'main' refused the statement: no such table (42P01)"
    assert (error.connection, error.code, error.__notes__) == ("main", "42P01", ["line 1: select"])


def test_the_text_of_the_cause_crosses() -> None:
    with pytest.raises(QueryError) as raised:
        fail()

    copy = pickle.loads(pickle.dumps(raised.value))

    assert str(copy.__cause__) == "ValueError: relation does not exist"


def test_of_many_names_the_nearest_are_listed() -> None:
    known = [f"job_{number:03}" for number in range(500)]

    said = unknown_name("job", "job_77", known, "jobs")

    assert said.startswith("no job named 'job_77'; did you mean 'job_477'?")
    assert said.partition(" nearest of 500 jobs: ")[2].count(",") == 4
    assert unknown_name("job", "x", ["a", "b"], "jobs") == "no job named 'x'; known jobs: a, b"
