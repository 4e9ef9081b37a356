"""docs/scale.md: the machine and the table of what was measured, between two comments; the rest is written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import machine

from growing.fit import Measured

PAGE = Path(__file__).parents[2] / "docs" / "scale.md"
FIGURES = Path(__file__).parents[1] / "growth.json"
BEGIN, END = "<!-- measured by benchmarks/growth.py --large -->", "<!-- end -->"


def keep(found: Measured) -> None:
    """Puts one growth among those of earlier runs, in place of the one of the same name and engine."""
    document = json.loads(FIGURES.read_text()) if FIGURES.exists() else {"growths": []}
    others = [
        row for row in document["growths"] if (row["name"], row["engine"]) != (found.name, found.engine)
    ]
    rows = sorted([*others, asdict(found)], key=lambda row: (row["name"], row["engine"]))
    FIGURES.write_text(json.dumps({"machine": machine.facts(), "growths": rows}, indent=1) + "\n")


def write() -> None:
    """Puts all figures into the page. Raises ValueError when the page has not the two comments."""
    document = json.loads(FIGURES.read_text())
    rows = [Measured(**row) for row in document["growths"]]
    text = PAGE.read_text()
    if BEGIN not in text or END not in text:
        raise ValueError(f"{PAGE} lacks {BEGIN!r} or {END!r}")
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{section(rows, document['machine'])}\n{END}{after}")


def section(rows: Sequence[Measured], facts: dict[str, str]) -> str:
    """Markdown: the machine, and a row for each growth."""
    return "\n".join(
        [
            "| | |",
            "|---|---|",
            *(f"| {name} | {value} |" for name, value in facts.items()),
            "",
            "| work | on | sizes: processor time | by the clock, last | exponent | memory |",
            "|---|---|---|---|---|---|",
            *map(line, rows),
            "",
        ]
    )


def line(found: Measured) -> str:
    """One row of the table."""
    points = ", ".join(
        f"{size:,}: {shown(seconds)}" for size, seconds in zip(found.sizes, found.seconds, strict=True)
    )
    clock = shown(found.wall[-1])
    said = found.notes[-1] if found.notes and found.notes[-1] and not found.notes[-1].startswith("{") else ""
    points += f"; at {found.sizes[-1]:,}: {said}" if said else ""
    return f"| {found.name} | {found.engine} | {points} | {clock} | {exponent(found)} | {memory(found)} |"


def sentence(found: Measured) -> str:
    """The same for the terminal."""
    return " ".join(line(found).strip("| ").split(" | ")) + f" (start {found.started:.2f} s)"


def exponent(found: Measured) -> str:
    """With its standard error; "-" where the times are too short to tell."""
    return "–" if found.fit is None else f"{found.fit.exponent:.2f} ± {found.fit.error:.2f}"


def memory(found: Measured) -> str:
    """At the smallest and at the largest size."""
    first, last = found.megabytes[0], found.megabytes[-1]
    return "–" if not last else f"{first:.0f} → {last:.0f} MB"


def shown(seconds: float) -> str:
    if seconds >= 10:
        return f"{seconds:.0f} s"
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{seconds * 1000:.0f} ms"
