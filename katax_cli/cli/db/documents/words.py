"""Words on the command line that are about documents: filters, conditions, values, JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import typer

from katax_cli.cli.db.run import named_values
from katax_cli.cli.shell.invocation import Invocation
from katax_cli.cli.shell.scope import Scope
from katax_cli.core.sql.conditions import Condition, Value, parse_condition
from katax_cli.engines.registry import part
from katax_cli.services.databases.builder.binding import Binder
from katax_cli.services.databases.builder.filters import field_name, filter_of
from katax_cli.services.databases.builder.selection import Comparison


class FilterWords(NamedTuple):
    """The options that say which documents are meant."""

    where: Sequence[str] = ()
    filter: str | None = None
    param: Sequence[str] = ()

    def named(self) -> list[str]:
        """The options and the fields of conditions, without their values."""
        names = [parse_condition(text).term for text in self.where]
        return names if self.filter is None else [*names, "filter"]


@dataclass(frozen=True)
class DocumentWords:
    """Reads words as values of MongoDB: `codec` is its Extended JSON. Raises BadParameter and ValueError."""

    call: Invocation
    codec: Any
    names: Binder

    def json(self, word: str, what: str, kinds: tuple[type, ...], expected: str) -> Any:
        """The Extended JSON of a word, of stdin or a file, of one of these kinds."""
        try:
            text = self.call.input_bytes(word).decode("utf-8-sig")
            value = self.codec.read(text)
        except ValueError as error:
            raise typer.BadParameter(f"{what} is no JSON: {error}; expected {expected}") from error
        if not isinstance(value, kinds):
            raise typer.BadParameter(f"{what} is JSON of another kind; expected {expected}")
        return value

    def document(self, word: str, what: str) -> dict[str, Any]:
        """An object."""
        value = self.json(word, what, (dict,), 'an object such as {"name": "Ada"}')
        assert isinstance(value, dict)
        return value

    def filter(self, words: FilterWords) -> dict[str, Any]:
        """The filter of all conditions together."""
        given = [] if words.filter is None else [self.document(words.filter, "--filter")]
        return filter_of([self.comparison(parse_condition(text)) for text in words.where], given)

    def comparison(self, condition: Condition) -> Comparison:
        """A condition with its values."""
        if "(" in condition.term:
            raise ValueError(f"{condition.term!r} is no field; functions stand in --filter, behind $expr")
        if condition.op in ("is", "is not"):
            return condition.term, condition.op, condition.constant
        if condition.op in ("like", "not like"):
            return condition.term, condition.op, self._text(condition.values[0])
        values = [self.value(value) for value in condition.values]
        return condition.term, condition.op, values if condition.op in ("in", "not in") else values[0]

    def value(self, value: Value) -> Any:
        """Of a word what it looks like, of a quoted one its text, of `:name` what its value looks like."""
        text = self._text(value)
        if value.kind == "quoted" or (value.kind == "bound" and text.startswith("{")):
            return text
        return self.codec.literal(text)

    def fields(self, pairs: Mapping[str, Value]) -> dict[str, Any]:
        """`name=value` words."""
        return {field_name(name): self.value(value) for name, value in pairs.items()}

    def sort(self, word: str | None) -> list[tuple[str, int]]:
        """`'age desc, name'`, or an object of fields with 1 and -1."""
        if word is None:
            return []
        if not _is_json(word):
            return [self._direction(part.strip()) for part in word.split(",")]
        orders = self.document(word, "--sort")
        for name, order in orders.items():
            if order not in (1, -1) and not isinstance(order, Mapping):
                raise typer.BadParameter(f"--sort of {name!r} is {order!r}; write 1 or -1")
        return list(orders.items())

    def projection(self, word: str | None) -> dict[str, Any] | None:
        """`name,age`, or a projection as MongoDB takes it."""
        if word is None:
            return None
        if _is_json(word):
            return self.document(word, "--projection")
        names = [field_name(name.strip()) for name in word.split(",")]
        return {**dict.fromkeys(names, 1), **({} if "_id" in names else {"_id": 0})}

    def _text(self, value: Value) -> str:
        return self.names.bound(value.text) if value.kind == "bound" else value.text

    def _direction(self, part: str) -> tuple[str, int]:
        name, _, direction = part.partition(" ")
        order = {"": 1, "asc": 1, "desc": -1}.get(direction.strip().lower())
        if order is None:
            raise typer.BadParameter(f"{direction.strip()!r} is no direction; write asc or desc")
        return field_name(name), order


def _is_json(word: str) -> bool:
    return word == "-" or word.lstrip().startswith(("{", "@"))


def words_of(chosen: Scope, param: Sequence[str] = ()) -> DocumentWords:
    """The reader of a command's words, on its one connection."""
    codec = part(chosen.documents.engine, "extended_json")
    return DocumentWords(chosen.call, codec, Binder(named_values(param)))
