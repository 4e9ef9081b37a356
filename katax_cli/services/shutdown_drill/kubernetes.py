"""How long Kubernetes waits for a pod, read from its manifest."""

from __future__ import annotations

import re

from katax_cli.errors import ConfigError
from katax_cli.services.shutdown_drill.values import KUBERNETES_SECONDS, Budget

_PERIOD = re.compile(r"^[\s\-]*\"?terminationGracePeriodSeconds\"?\s*:\s*(\d+)", re.MULTILINE)
_PRE_STOP = re.compile(r"^([ \t\-]*)\"?preStop\"?\s*:", re.MULTILINE)
# `sleep: {seconds: 5}`, `command: ["sleep", "5"]`, `command: ["sh", "-c", "sleep 5"]`, and the same over lines.
_SLEEP = re.compile(r"\bsleep\b[^\d]{0,40}?(\d+(?:\.\d+)?)")


def read_budget(path: str) -> Budget:
    """The least terminationGracePeriodSeconds of a manifest (30 where it says none) and its longest preStop sleep.

    Reads the text, so templates do too. Raises ConfigError when the file cannot be read.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read {path!r}: {error}; give a manifest or seconds") from error
    periods = [float(found) for found in _PERIOD.findall(text)]
    sleeps = [float(found[1]) for hook in _hooks(text) if (found := _SLEEP.search(hook))]
    return Budget(min(periods, default=KUBERNETES_SECONDS), max(sleeps, default=0.0))


def _hooks(text: str) -> list[str]:
    """The text of every preStop: what is indented deeper, or stands in the same line."""
    hooks = []
    for found in _PRE_STOP.finditer(text):
        first, *rest = text[found.end() :].split("\n")
        depth, lines = len(found[1]), [first]
        for line in rest:
            if line.strip() and len(line) - len(line.lstrip()) <= depth:
                break
            lines.append(line)
        hooks.append("\n".join(lines))
    return hooks
