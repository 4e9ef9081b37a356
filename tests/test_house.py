"""The floor plan: circles, sizes of rooms and files, a test module for each module, one owner for each class name."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from katax_cli.core.engine_names import ENGINE_NAMES
from tests.mirrors import TESTED_THROUGH

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "katax_cli"
MAX_MODULES = 16
MAX_LINES = 400

SHARED_NAMES = {
    "Column": "programs import a model's by this name; the dashboard's stays within its tables",
}
"""Class names with several owners, with the reason."""

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
    modules = Counter(str(file.parent) for file in files() if file.stem != "__init__")
    crowded = {room: count for room, count in modules.items() if count > MAX_MODULES}
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


def test_the_lists_of_engines_exist_once() -> None:
    """But for `assert settings.type in (…)`, which tells the type checker what is known."""
    names = set(ENGINE_NAMES)
    sources = {file: file.read_text(encoding="utf-8") for file in files() if file.stem != "engine_names"}
    spelt = [
        f"{file.relative_to(ROOT)}:{node.lineno}"
        for file, source in sources.items()
        if sum(f'"{name}"' in source for name in names) > 1
        for statement in ast.walk(ast.parse(source))
        if isinstance(statement, ast.Assign | ast.Call | ast.If | ast.Return)
        for node in ast.walk(statement)
        if isinstance(node, ast.Tuple) and len(node.elts) > 1
        if all(isinstance(element, ast.Constant) and element.value in names for element in node.elts)
    ]

    assert spelt == []


def test_the_folders_of_the_sql_engines_have_one_layout() -> None:
    layouts = {
        engine: sorted(file.name for file in Path(PACKAGE, "engines", engine, "sql").glob("*.py"))
        for engine in ("postgresql", "mysql", "sqlite")
    }

    assert len({tuple(names) for names in layouts.values()}) == 1, layouts


def class_names(tree: ast.Module) -> Iterator[str]:
    yield from (node.name.lstrip("_") for node in ast.walk(tree) if isinstance(node, ast.ClassDef))


def alias_names(tree: ast.Module) -> Iterator[str]:
    """Names of types that are composed from others; not those of options, which belong to one file of commands."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(target := node.targets[0], ast.Name):
            name = target.id.lstrip("_")
            if not name[:1].isupper() or name.isupper():
                continue
            if not ast.unparse(node.value).startswith("Annotated["):
                yield name


def owners(named: Mapping[str, str]) -> dict[str, set[str]]:
    """Class names with more than one owner, by file and source: other classes, and types of the same name."""
    classes: dict[str, set[str]] = {}
    aliases: dict[str, set[str]] = {}
    for file, source in named.items():
        tree = ast.parse(source)
        for name in class_names(tree):
            classes.setdefault(name, set()).add(file)
        for name in alias_names(tree):
            aliases.setdefault(name, set()).add(file)
    all_owners = {name: files | aliases.get(name, set()) for name, files in classes.items()}
    return {name: files for name, files in all_owners.items() if len(files) > 1}


def test_a_class_name_has_one_owner() -> None:
    shared = owners({str(file.relative_to(ROOT)): file.read_text(encoding="utf-8") for file in files()})

    assert {name: where for name, where in shared.items() if name not in SHARED_NAMES} == {}
    assert sorted(SHARED_NAMES.keys() - shared.keys()) == [], "these have one owner by now"


def test_a_second_owner_would_be_seen() -> None:
    named = {
        "a.py": "class Job: ...\nclass Own: ...",
        "b.py": "def f():\n    class _Job: ...",
        "c.py": "Own = tuple[int, str]\nKey = Annotated[str, 1]\nclass Key2: ...",
        "d.py": "class Key: ...",
    }

    assert owners(named) == {"Job": {"a.py", "b.py"}, "Own": {"a.py", "c.py"}}


def test_every_module_has_a_test_module_or_a_reason() -> None:
    modules = {str(file.relative_to(PACKAGE)) for file in files() if not file.stem.startswith("__")}
    mirrored = {module for module in modules if any(test.exists() for test in mirrors(module))}
    named = {module: tests for tests, listed in TESTED_THROUGH.items() for module in listed}

    assert sorted(modules - mirrored - named.keys()) == []
    assert sorted(named.keys() & mirrored) == [], "these have a test module of their own by now"
    assert sorted(named.keys() - modules) == [], "these are gone"
    assert sorted(tests for tests in TESTED_THROUGH if not Path(ROOT, "tests", tests).exists()) == []


def mirrors(module: str) -> Iterator[Path]:
    """The test module of the same path; of an ability that engines share, one for all of them."""
    path = Path(ROOT, "tests", module)
    yield path.with_name(f"test_{path.name}")
    if path.parts[-3] == "engines":
        yield path.parents[1] / f"test_{path.name}"
