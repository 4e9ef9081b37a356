"""katax: the command line and the service core for the data services behind an application.

Importing this package imports nothing else; every public name is loaded on first use (PEP 562).
"""

from __future__ import annotations

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {
    "Migrator": "katax_cli.migrations",
}
"""Public name → module that defines it."""


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
