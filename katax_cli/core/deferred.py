"""Modules of the standard library that drivers import for a few names: executed when more of them is asked for.

psycopg and redis-py import `asyncio`, for their classes for tasks, and `importlib.metadata`, and with it `email`, for
their own version. Without both `migrate up` with nothing to do takes 0.87 of the processor time. This is for a process
that is katax's own, as that of a command.
"""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec, module_from_spec
from threading import RLock
from types import ModuleType
from typing import Any

_HOMES = {
    "CancelledError": "exceptions",
    "Future": "futures",
    "IncompleteReadError": "exceptions",
    "LifoQueue": "queues",
    "Lock": "locks",
    "Queue": "queues",
    "StreamReader": "streams",
    "Task": "tasks",
    "get_running_loop": "events",
    "sleep": "tasks",
    "timeout": "timeouts",
}
"""What drivers take out of `asyncio` when they are imported → the submodule that has it."""

_executing = RLock()
_under_way: set[str] = set()


class _Deferred(ModuleType):
    """A package that is executed once a name is asked for that is neither `light` nor a submodule."""

    def light(self, name: str) -> Any:
        """The value of a name that is to be had without the package. Raises KeyError for any other."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        try:
            return self.light(name)
        except KeyError:
            # Submodules ask for each other while they are imported alone.
            submodule = f"{self.__name__}.{name}"
            if find_spec(submodule) is not None:
                return import_module(submodule)
        with _executing:
            _execute(self)
        value: Any = ModuleType.__getattribute__(self, name)
        return value


class _Asyncio(_Deferred):
    def light(self, name: str) -> Any:
        return getattr(import_module(f"{self.__name__}.{_HOMES[name]}"), name)


class _Metadata(_Deferred):
    def light(self, name: str) -> Any:
        return {"version": _version}[name]


def _execute(module: ModuleType) -> None:
    name = module.__name__
    if name in _under_way or type(module) is ModuleType:
        return
    spec = module.__spec__
    assert spec is not None
    assert spec.loader is not None
    _under_way.add(name)
    try:
        spec.loader.exec_module(module)
        module.__class__ = ModuleType
    finally:
        _under_way.remove(name)


def defer() -> None:
    """Defers both in this process, unless they were imported before."""
    for name, kind in (("asyncio", _Asyncio), ("importlib.metadata", _Metadata)):
        spec = find_spec(name)
        if name not in sys.modules and spec is not None:
            module = sys.modules[name] = module_from_spec(spec)
            module.__class__ = kind
            parent, _, child = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], child, module)


def _version(distribution: str) -> str:
    """As importlib.metadata's, read without a parser for mail."""
    start = f"{distribution.replace('-', '_')}-"
    for place in sys.path:
        with suppress(OSError):
            for folder in os.listdir(place or "."):
                if folder.startswith(start) and (version := _stated(os.path.join(place, folder))):
                    return version
    metadata = sys.modules["importlib.metadata"]
    with _executing:
        _execute(metadata)
    return str(metadata.version(distribution))


def _stated(folder: str) -> str | None:
    """The version that a `.dist-info` states. Raises OSError when it states nothing."""
    with open(os.path.join(folder, "METADATA"), encoding="utf-8") as file:
        return next((line[9:].strip() for line in file if line.startswith("Version: ")), None)
