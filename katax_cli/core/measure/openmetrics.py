"""OpenMetrics 1.0 text from values; see https://github.com/prometheus/OpenMetrics, specification 1.0."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

CONTENT_TYPE = "application/openmetrics-text; version=1.0.0; charset=utf-8"
Kind = Literal["gauge", "counter"]


class Sample(NamedTuple):
    """One number and the labels that distinguish it within its family."""

    value: float
    labels: Mapping[str, str] = {}


class Family(NamedTuple):
    """A metric: its name without `_total`, what it is in one sentence, and its samples."""

    name: str
    kind: Kind
    help: str
    samples: Sequence[Sample]


def gauge(name: str, help: str, value: float) -> Family:
    """A gauge of one number."""
    return Family(name, "gauge", help, (Sample(value),))


def exposition(families: Iterable[Family]) -> str:
    """The whole answer of a /metrics; families without samples are left out. Raises ValueError for a name given twice.

    `inf` and `nan` are written as the specification does.
    """
    return "".join(_families(families)) + "# EOF\n"


def _families(families: Iterable[Family]) -> Iterator[str]:
    seen: set[str] = set()
    for family in families:
        if family.name in seen:
            raise ValueError(f"metric {family.name!r} is given twice, expected once with all its samples")
        seen.add(family.name)
        if family.samples:
            yield from _lines(family)


def _lines(family: Family) -> Iterator[str]:
    yield f"# TYPE {family.name} {family.kind}\n# HELP {family.name} {_help(family.help)}\n"
    suffix = "_total" if family.kind == "counter" else ""
    for sample in family.samples:
        yield f"{family.name}{suffix}{_labels(sample.labels)} {_number(sample.value)}\n"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{escaped(value)}"' for name, value in labels.items())
    return f"{{{pairs}}}" if pairs else ""


def escaped(text: str) -> str:
    """A label's value as it stands between its quotes."""
    return _help(text).replace('"', '\\"')


def _help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
