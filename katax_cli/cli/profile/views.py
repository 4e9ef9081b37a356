"""The lines of `katax profile check`."""

from __future__ import annotations

import os
from collections.abc import Sequence

from katax_cli.profiles.model.problems import Problem

PROBLEM_HEADER = ("level", *Problem._fields[:-1])


def problem_line(problem: Problem) -> str:
    """`profiles/dev.toml:4: unknown key 'prot' in [connections.main] (did you mean 'port'?)`."""
    place = ":".join(str(part) for part in (_near(problem.file), problem.line) if part is not None)
    start = f"{place}: " if place else ""
    level = "warning: " if problem.level == "warning" else ""
    return f"{start}{level}{problem.message}" + (f" ({problem.remedy})" if problem.remedy else "")


def _near(file: str | None) -> str | None:
    """A path as it is typed from here."""
    if file is None:
        return None
    near = os.path.relpath(file)
    return file if near.startswith("..") else near


def verdict(names: Sequence[str]) -> str:
    """The answer where nothing is wrong."""
    if len(names) > 1:
        return f"no mistakes in {len(names)} profiles"
    return f"no mistakes in profile {names[0]!r}" if names else "no mistakes"
