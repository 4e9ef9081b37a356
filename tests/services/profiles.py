"""A runtime as a program of its own would have it: from a profile file, not for one command only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from katax_cli.profiles.load import load_profile
from katax_cli.profiles.model.model import Profile
from tests.cli.harness import write_profile


def profile(
    folder: Path, connections: Mapping[str, str], *, role: str = "dev", extra: str = "", name: str = "test"
) -> Profile:
    """The profile that is written to `folder`, which must be the working directory."""
    write_profile(folder, connections, role=role, extra=extra, name=name)
    return load_profile(name)
