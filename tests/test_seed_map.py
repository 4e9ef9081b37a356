"""Every name, command, setting and default of docs/seed-map.md is there."""

from __future__ import annotations

import ast
import inspect
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import katax_cli
from katax_cli.cli.completion.tree import nodes
from katax_cli.profiles.model.keys import PROFILE, Key

PAGE = Path(__file__).parents[1] / "docs" / "seed-map.md"
AREAS: set[str] = set()
"""Areas that have a page or a map of their own."""
OWN = {
    "Config", "Database", "MetricsPool", "MongoDatabase", "RedisDatabase", "SqlDatabase", "Transaction",
    "ShutdownController", "ShutdownReport", "MetricsResult", "Notification", "NotificationGap",
}  # fmt: skip
"""What the documents have as types only."""


class Row(NamedTuple):
    """One line of a table: the spans of code in its middle column, or the area that it belongs to."""

    line: int
    there: str
    spans: tuple[str, ...]
    area: str | None


def rows() -> Iterator[Row]:
    for number, line in enumerate(PAGE.read_text().splitlines(), start=1):
        if not line.startswith("| ") or line.startswith("| there "):
            continue
        there, middle, _ = re.split(r"(?<!\\)\|", line.strip("|"), maxsplit=2)
        area = re.fullmatch(r"\*(\w+)\*", middle.strip())
        yield Row(number, there.strip(), tuple(re.findall(r"`([^`]+)`", middle)), area and area[1])


SPANS = sorted({span for row in rows() for span in row.spans})
COMMANDS = {"katax " + " ".join(node.path) for node in nodes()}


def resolved(dotted: str) -> Any:
    """A public name, one of its attributes, or a public module."""
    if dotted.startswith("katax_cli."):
        return import_module(dotted)
    first, *rest = dotted.split(".")
    value: Any = getattr(katax_cli, first)
    for name in rest:
        value = getattr(value, "__dataclass_fields__", {}).get(name) or inspect.getattr_static(value, name)
    return value


def setting(span: str) -> Key:
    """`[table] key.sub` in the table of all keys."""
    table, _, keys = span[1:].partition("] ")
    path = [part for part in table.split(".") if part != "NAME"] + keys.split(".")
    key, known = None, PROFILE
    for part in path:
        key = known[part]
        known = key.keys or {}
    assert key is not None
    return key


def test_every_row_says_where() -> None:
    assert [row for row in rows() if not row.spans and row.area not in AREAS] == []
    assert len(list(rows())) > 130


@pytest.mark.parametrize("span", SPANS)
def test_it_is_there(span: str) -> None:
    if span.startswith("katax "):
        assert span in COMMANDS
    elif span.startswith("["):
        assert setting(span)
    else:
        name, _, arguments = span.partition("(")
        value = resolved(name)
        for argument, default in defaults(span).items() if arguments else ():
            assert signature(value).parameters[argument].default == default, argument


def defaults(span: str) -> Mapping[str, object]:
    call = ast.parse(span, mode="eval").body
    assert isinstance(call, ast.Call)
    return {one.arg or "": ast.literal_eval(one.value) for one in call.keywords}


def signature(value: Any) -> inspect.Signature:
    return inspect.signature(value.__func__ if isinstance(value, classmethod | staticmethod) else value)


def test_every_public_function_and_class_is_on_the_page() -> None:
    text = " ".join(SPANS)
    errors = {name for name, module in katax_cli._PUBLIC.items() if module == "katax_cli.errors"}
    missing = [
        name for name in katax_cli._PUBLIC if name not in errors | OWN and not re.search(rf"\b{name}\b", text)
    ]

    assert missing == []


HARMLESS: Mapping[str, Callable[[], object]] = {
    "with_retry": lambda: katax_cli.with_retry(lambda: 1),
    "create_retry_wrapper": lambda: katax_cli.create_retry_wrapper(lambda: 1)(),
    "retry": lambda: katax_cli.retry()(lambda: 1)(),
    "is_transient_error": lambda: katax_cli.is_transient_error(ConnectionRefusedError()),
    "CircuitBreaker": lambda: katax_cli.CircuitBreaker().execute(lambda: 1),
    "Config": lambda: katax_cli.Config().get("NOTHING_OF_THIS_NAME", 1),
    "graceful_shutdown": lambda: katax_cli.graceful_shutdown([]).clean,
    "create_shutdown_controller": lambda: not katax_cli.create_shutdown_controller([]).is_shutting_down(),
    "Katax": lambda: katax_cli.Katax("local").shutdown().clean,
    "Logger": lambda: katax_cli.Logger().child(),
}


@pytest.mark.parametrize("name", HARMLESS)
def test_it_works_with_its_defaults(name: str, tmp_path: Path) -> None:
    assert HARMLESS[name]()


def test_the_idioms_on_a_database(tmp_path: Path) -> None:
    with katax_cli.create_test_database() as db:
        assert katax_cli.check_database_health(db).error is None
        assert katax_cli.perform_health_check(db).error is None
        assert katax_cli.has_database_metrics(db)
        db.query("select 1")
        assert katax_cli.get_metrics(db).queries is not None
        assert katax_cli.HealthMonitor(db).check_now().error is None
        assert katax_cli.create_metrics_pool(db).get_metrics().total == 1
        assert katax_cli.Monitor(db).get_metrics()
        katax_cli.shutdown_database(db)
        assert db.closed


def test_a_sqlite_connection_counts_as_there() -> None:
    with closing(sqlite3.connect(":memory:")) as connection:
        stats = katax_cli.create_metrics_pool(connection).get_metrics()
    assert (stats.total, stats.idle, stats.active, stats.waiting) == (1, 0, 1, 0)


def test_lifetimes() -> None:
    ttl = katax_cli.DEFAULT_TTL
    assert (ttl.SHORT, ttl.MEDIUM, ttl.LONG, ttl.SESSION, ttl.WEEK) == (300, 900, 3600, 86400, 604800)


def test_the_open_breaker_says_so() -> None:
    breaker = katax_cli.CircuitBreaker()
    breaker.force_open()
    with pytest.raises(katax_cli.BreakerOpen, match="circuit breaker is open"):
        breaker.execute(lambda: 1)
