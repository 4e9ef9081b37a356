"""The problems of a configuration: all at once, each with file, line and remedy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from katax_cli.errors import ConfigError
from katax_cli.profiles.model.layer import Layer, Path, dotted


class Problem(NamedTuple):
    """One thing that is wrong; `str` is the line for people."""

    file: str | None
    line: int | None
    key: str
    message: str
    remedy: str | None = None
    level: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = (
            f"{self.file}:{self.line}: " if self.file and self.line else f"{self.file}: " if self.file else ""
        )
        return f"{where}{self.message}" + (f"; {self.remedy}" if self.remedy else "")


class Problems:
    """Collects problems and finds the place of each in the layers of a profile."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        self._layers = layers
        self.found: list[Problem] = []

    def add(
        self,
        path: Path,
        message: str,
        remedy: str | None = None,
        *,
        level: Literal["error", "warning"] = "error",
        layer: Layer | None = None,
    ) -> None:
        layer = layer or origin_of(self._layers, path)
        file, line = (layer.file, layer.line(path) or 1) if layer and layer.file else (None, None)
        self.found.append(Problem(file, line, dotted(path), message, remedy, level))

    @property
    def errors(self) -> list[Problem]:
        return [problem for problem in self.found if problem.level == "error"]

    @property
    def stopping(self) -> list[Problem]:
        """The errors without which there would be a profile; one wrong job costs only the commands on jobs."""
        return [problem for problem in self.errors if not problem.key.startswith("cron.jobs.")]

    def first(self) -> ConfigError:
        """The first error that stops everything, with the number of others."""
        errors = self.stopping
        more = f" ({len(errors) - 1} more: katax profile check)" if len(errors) > 1 else ""
        return ConfigError(f"{errors[0]}{more}")


def origin_of(layers: Sequence[Layer], path: Path) -> Layer | None:
    """The layer that a key came from: the first that has it; for a missing one, the layer around it."""
    if not layers:
        return None
    # Connections are replaced whole, so the layer that has the connection has all its keys.
    depth = 2 if path[:1] == ("connections",) else len(path)
    for length in range(min(depth, len(path)), 0, -1):
        for layer in layers:
            if _has(layer, path[:length]):
                return layer
    return layers[0]


def _has(layer: Layer, path: Path) -> bool:
    table: object = layer.table
    for part in path:
        if not isinstance(table, dict) or part not in table:
            return False
        table = table[part]
    return True
