"""A command line under completion: what kind of value may stand at its cursor."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from katax_cli.profiles.model.model import Profile

POSITIONS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("health", "health check", "health serve"), ("connections", "...")),
    **dict.fromkeys(("circuit trip", "circuit reset", "circuit disable"), ("connections",)),
    **dict.fromkeys(("db describe", "db select", "db delete"), ("tables",)),
    **dict.fromkeys(("db insert", "db update"), ("tables", "assignments", "...")),
    "db truncate": ("tables", "..."),
    **dict.fromkeys(
        (f"cache {name}" for name in ("get", "set", "ttl", "expire", "persist", "exists")), ("keys",)
    ),
    **dict.fromkeys(("cache incr", "cache decr", "cache remember", "cache scan", "cache clear"), ("keys",)),
    **dict.fromkeys(("cache del", "cache mget"), ("keys", "...")),
    **dict.fromkeys(
        (f"cron {name}" for name in ("next", "explain", "run", "history", "remove", "enable", "disable")),
        ("jobs",),
    ),
    "migrate run": ("migrations",),
    "migrate baseline": ("versions",),
    "seed run": ("seeds",),
    "ws serve": ("sockets",),
    **dict.fromkeys(("profile show", "profile check", "profile use"), ("profiles",)),
    **dict.fromkeys(("completion show", "completion install"), ("shells",)),
}
"""Command → the kinds of its arguments; `...` repeats the last one."""

OPTIONS: dict[str, str] = {
    **dict.fromkeys(("-p", "--profile"), "profiles"),
    **dict.fromkeys(("-c", "--connection", "--redis"), "connections"),
    **dict.fromkeys(("-f", "--format"), "formats"),
    "--to": "versions",
    "--name": "sockets",
    **dict.fromkeys(("--columns", "--order", "--group-by"), "columns"),
    "--log-level": "levels",
    "--log-format": "log_formats",
}
"""Option → the kind of its value."""

# Options of other commands whose value must not be taken for an argument.
_OTHER_VALUES = (
    "-o",
    "--output",
    "--timeout",
    "--confirm",
    "--null",
    "--where",
    "--limit",
    "--ttl",
    "--param",
    "--json",
)


class TypedLine(NamedTuple):
    """A command line up to the cursor, whose word `current` is being completed."""

    words: tuple[str, ...]
    current: str

    @property
    def before(self) -> str:
        """The word before the cursor's."""
        return self.words[-1] if self.words else ""

    @property
    def plain(self) -> list[str]:
        """The words that are neither options nor their values."""
        valued = (*OPTIONS, *_OTHER_VALUES)
        pairs = zip(("", *self.words), self.words, strict=False)
        return [word for before, word in pairs if not word.startswith("-") and before not in valued]

    def value_of(self, *options: str) -> str | None:
        """The value that the line gives to an option."""
        pairs = zip(self.words, self.words[1:], strict=False)
        return next((value for option, value in pairs if option in options), None)


def kind_at(line: TypedLine) -> str | None:
    """The kind of value that may stand at the cursor, if its values can be known."""
    if line.before in OPTIONS:
        kind = OPTIONS[line.before]
        # `db export --to` and its like name other things.
        return None if kind == "versions" and line.plain[:1] != ["migrate"] else kind
    if line.current.startswith("-"):
        return None
    for length in (2, 1):
        kinds = POSITIONS.get(" ".join(line.plain[:length]))
        if kinds is not None and len(line.plain) >= length:
            return _of_position(kinds, len(line.plain) - length)
    return None


def _of_position(kinds: tuple[str, ...], position: int) -> str | None:
    if kinds[-1] == "...":
        return kinds[min(position, len(kinds) - 2)]
    return kinds[position] if position < len(kinds) else None


def profile_of(line: TypedLine) -> Profile:
    """The profile that the line names, or the one that would be used."""
    from katax_cli.profiles.load import load_profile
    from katax_cli.profiles.sources.by_url import is_url

    connection = line.value_of("-c", "--connection")
    return load_profile(
        line.value_of("-p", "--profile"), url=connection if connection and is_url(connection) else None
    )
