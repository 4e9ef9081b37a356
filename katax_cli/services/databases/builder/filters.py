"""Conditions as filters of MongoDB. Values stay values: each stands behind an operator, so that none becomes one."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from katax_cli.services.databases.builder.selection import ConditionGroup, SelectionCondition

Filter = dict[str, Any]

_OPERATORS = {
    "=": "$eq",
    "!=": "$ne",
    "<>": "$ne",
    "<": "$lt",
    "<=": "$lte",
    ">": "$gt",
    ">=": "$gte",
    "in": "$in",
    "not in": "$nin",
    "is": "$eq",
    "is not": "$ne",
}
# Not `$` or `\Z`, which also match before a last line end.
_END = r"(?![\s\S])"


def field_name(text: str) -> str:
    """A field, or a path such as `address.city`. Raises ValueError for what MongoDB would read as an operator."""
    if not text or "\0" in text or any(part.startswith("$") or not part for part in text.split(".")):
        raise ValueError(f"{text!r} is no field: write NAME or NAME.NAME, without $")
    return text


def collection_name(text: str) -> str:
    """Raises ValueError for what is no name of a collection."""
    if not text or "$" in text or "\0" in text or "" in text.split("."):
        raise ValueError(f"{text!r} is no name of a collection")
    return text


def filter_of(conditions: Sequence[SelectionCondition], given: Sequence[Mapping[str, Any]] = ()) -> Filter:
    """All conditions and all filters that were given hold together."""
    parts: list[Any] = [_filter(condition) for condition in conditions]
    parts += [one for one in given if one]
    if len(parts) > 1:
        return {"$and": parts}
    return dict(parts[0]) if parts else {}


def _filter(condition: SelectionCondition) -> Filter:
    if not isinstance(condition, ConditionGroup):
        return _compared(*condition)
    return {f"${condition.word}": [_filter(part) for part in condition.parts]}


def _compared(column: str, op: str, value: Any) -> Filter:
    name = field_name(column)
    if op in ("like", "not like"):
        pattern = {"$regex": like_pattern(str(value)), "$options": "s"}
        return {name: pattern if op == "like" else {"$not": pattern}}
    if op in ("in", "not in"):
        value = list(value)
    return {name: {_OPERATORS[op]: value}}


def like_pattern(text: str) -> str:
    """The regular expression of a LIKE pattern: `%` any text, `_` one character, `\\` before one of them itself."""
    parts = re.findall(r"\\[%_\\]|[\s\S]", text)
    anywhere = bool(parts) and parts[-1] == "%"
    written = "".join(_like_part(part) for part in (parts[:-1] if anywhere else parts))
    return f"^{written}{'' if anywhere else _END}"


def _like_part(part: str) -> str:
    if part in ("%", "_"):
        return ".*" if part == "%" else "."
    return re.escape(part[-1])


def holds_for_all(filter: Mapping[str, Any]) -> bool:
    """True for a filter that matches every document, by its form alone."""
    return all(_always(key, value) for key, value in filter.items())


def _always(key: str, value: Any) -> bool:
    if key == "$comment":
        return True
    if key in ("$and", "$or", "$nor"):
        return _any_or_all(key, value)
    if key == "$expr":
        return value not in (False, None, 0) and not isinstance(value, str | Mapping | list)
    if key == "$where":
        return bool(re.fullmatch(r"\s*(?:return\s+)?(?:true|1)\s*;?\s*", str(value)))
    if isinstance(value, Mapping):
        return bool(value) and all(_true_of(key, op, operand) for op, operand in value.items())
    return False


def _any_or_all(key: str, parts: Any) -> bool:
    filters = [part for part in parts if isinstance(part, Mapping)] if isinstance(parts, list | tuple) else []
    if key == "$nor":
        return bool(filters) and all(map(_never, filters))
    held = [holds_for_all(part) for part in filters]
    return bool(held) and (all(held) if key == "$and" else any(held))


def _never(filter: Mapping[str, Any]) -> bool:
    """True for a filter that matches no document, by its form alone."""
    return any(isinstance(value, Mapping) and value.get("$in") == [] for value in filter.values())


def _true_of(field: str, op: str, operand: Any) -> bool:
    """Each document has an `_id`, which is not null."""
    if op == "$nin":
        return operand == [] or (field == "_id" and operand == [None])
    if op == "$not":
        return isinstance(operand, Mapping) and operand.get("$in") == []
    if op == "$exists":
        return field == "_id" and bool(operand)
    return op == "$ne" and field == "_id" and operand is None


def sort_of(orders: Iterable[tuple[str, bool]]) -> list[tuple[str, int]]:
    """Fields, and whether each falls, as MongoDB sorts."""
    return [(field_name(name), -1 if falling else 1) for name, falling in orders]
