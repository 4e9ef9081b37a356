"""The main module of a process that runs a `python = "pkg.mod:func"` job."""

from __future__ import annotations

import sys
from importlib import import_module

from katax_cli.core.callables import completed, plain


def main(target: str) -> None:
    """Imports the module, calls the function, and exits with the number that it returned, if it did."""
    module, _, name = target.partition(":")
    value: object = import_module(module)
    for part in name.split("."):
        value = getattr(value, part)
    assert callable(value)
    result = completed(plain(value, "cron")(), value, "cron")
    if isinstance(result, int) and not isinstance(result, bool):
        sys.exit(result)
