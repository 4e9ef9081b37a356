"""The reference in docs/api/: every public name stands in it, and its examples run."""

from __future__ import annotations

import ast
import asyncio
import re
import sys
from importlib import import_module
from inspect import iscoroutine
from pathlib import Path
from types import CodeType, ModuleType

import pytest
import yaml

import katax_cli
from katax_cli import Katax
from tests.reference import AWAITED, DOCS, blocks, names, pages
from tests.services.runtimes import write_profile

MODULES = [
    *("health", "resilience", "pool", "shutdown", "redis", "migrations", "seeds", "testing", "aio"),
    "integrations.starlette",
]


def object_of(path: str) -> object:
    module, _, name = path.rpartition(".")
    return getattr(import_module(module), name)


def test_every_public_name_stands_in_it_with_an_example() -> None:
    described = {path: page for page in pages() for path in names(page)}
    objects = {id(object_of(path)) for path in described}
    public = [f"katax_cli.{name}" for name in katax_cli.__all__]
    for module in MODULES:
        public += [f"katax_cli.{module}.{name}" for name in import_module(f"katax_cli.{module}").__all__]

    assert [path for path in public if path not in described and id(object_of(path)) not in objects] == []
    without = [
        path
        for path, page in described.items()
        if not re.search(rf"\b{path.rpartition('.')[2]}\b", "".join(blocks(page)))
    ]
    assert without == []


@pytest.mark.parametrize("page", list(pages()), ids=lambda page: page.stem)
def test_the_examples_run(
    page: Path, tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_profile(tmp_path, main="sqlite:///main.db", cache=redis_url)
    monkeypatch.setenv("KATAX_PROFILE", "test")

    module = ModuleType(f"reference_{page.stem}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    namespace = module.__dict__

    async def run(code: CodeType) -> None:
        answer = eval(code, namespace)
        if iscoroutine(answer):
            await answer

    # A program's blocks run without an event loop, those of the asynchronous core on one.
    with asyncio.Runner() as runner:
        try:
            for block in blocks(page):
                if page.stem == AWAITED:
                    code = compile(block, str(page), "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
                    runner.run(run(code))
                else:
                    exec(compile(block, str(page), "exec"), namespace)
        finally:
            Katax.reset()


def test_the_navigation_leads_to_pages_and_to_all_of_the_reference() -> None:
    text = (DOCS.parent / "mkdocs.yml").read_text()
    site = yaml.safe_load(text)
    shown = {page for section in site["nav"] for entry in section.values() for page in _pages_of(entry)}

    assert sorted(page for page in shown if not (DOCS / page).exists()) == []
    assert sorted({str(page.relative_to(DOCS)) for page in pages()} - shown) == []


def _pages_of(entry: object) -> list[str]:
    if isinstance(entry, str):
        return [entry]
    assert isinstance(entry, list)
    return [page for item in entry for page in (item.values() if isinstance(item, dict) else [item])]
