"""The floor plan of the package: circles, sizes of rooms and files, and a test module for every module."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.mirrors import TESTED_THROUGH

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "katax_cli"
MAX_MODULES = 16
MAX_LINES = 400

Graph = Mapping[str, Sequence[str]]


def files() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def name_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imports(names: set[str], file: Path) -> list[str]:
    """The modules of the package that a module imports anywhere, in functions and under TYPE_CHECKING too."""
    imported: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            parts = {f"{node.module}.{alias.name}" for alias in node.names}
            imported.update(part if part in names else node.module for part in parts)
    return sorted((imported & names) - {name_of(file)})


def circles(graph: Graph) -> Iterator[list[str]]:
    """Modules that import each other, directly or by way of others: what is left when ends are taken away."""
    left = dict(graph)
    while ends := [name for name, imported in left.items() if not set(imported) & left.keys()]:
        for name in ends:
            del left[name]
    while left:
        start = min(left)
        path = [start]
        while (following := min(set(left[path[-1]]) & left.keys())) not in path:
            path.append(following)
        circle = path[path.index(following) :]
        yield circle
        for name in circle:
            del left[name]
        while ends := [name for name, imported in left.items() if not set(imported) & left.keys()]:
            for name in ends:
                del left[name]


def test_no_module_imports_itself_by_way_of_others() -> None:
    names = {name_of(file) for file in files()}

    assert "katax_cli.errors" in names
    assert list(circles({name_of(file): imports(names, file) for file in files()})) == []


def test_a_circle_would_be_found() -> None:
    graph = {"a": ["b"], "b": ["c"], "c": ["b", "d"], "d": [], "e": ["f"], "f": ["e"]}

    assert list(circles(graph)) == [["b", "c"], ["e", "f"]]


def test_no_room_is_crowded_and_no_file_is_long() -> None:
    rooms = {file.parent for file in files()}
    crowded = {
        str(room): count
        for room in rooms
        if (count := sum(file.parent == room and file.stem != "__init__" for file in files())) > MAX_MODULES
    }
    long = {str(file): lines for file in files() if (lines := file.read_bytes().count(b"\n")) > MAX_LINES}

    assert (crowded, long) == ({}, {})


def test_every_room_says_what_it_holds() -> None:
    silent = [
        str(file)
        for file in files()
        if file.stem == "__init__" and not ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    ]
    without = [str(room) for room in {file.parent for file in files()} if not (room / "__init__.py").exists()]

    assert (silent, without) == ([], [])


def test_every_module_has_a_test_module_or_a_reason() -> None:
    modules = {str(file.relative_to(PACKAGE)) for file in files() if not file.stem.startswith("__")}
    mirrored = {module for module in modules if mirror(module).exists()}
    named = {module: tests for tests, listed in TESTED_THROUGH.items() for module in listed}

    assert sorted(modules - mirrored - named.keys()) == []
    assert sorted(named.keys() & mirrored) == [], "these have a test module of their own by now"
    assert sorted(named.keys() - modules) == [], "these are gone"
    assert sorted(tests for tests in TESTED_THROUGH if not Path(ROOT, "tests", tests).exists()) == []


def mirror(module: str) -> Path:
    path = Path(ROOT, "tests", module)
    return path.with_name(f"test_{path.name}")
