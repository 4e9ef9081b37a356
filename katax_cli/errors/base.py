"""The base of all errors, how an error crosses to another process, and the sentence about an unknown name."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any


class KataxError(Exception):
    """Base of all errors that katax raises on purpose."""

    def __reduce__(self) -> tuple[Callable[..., KataxError], tuple[Any, ...]]:
        """Pickles facts, notes and the text of the cause; the driver's own error stays in its process."""
        cause = None if self.__cause__ is None else f"{type(self.__cause__).__name__}: {self.__cause__}"
        return _unpickled, (type(self), self.args, dict(self.__dict__), cause)


class RemoteCause(Exception):
    """The text of an error that was raised in another process."""


def _unpickled(
    kind: type[KataxError], args: tuple[object, ...], facts: Mapping[str, object], cause: str | None
) -> KataxError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    if cause is not None:
        error.__cause__ = RemoteCause(cause)
    return error


_LISTED, _NEAREST = 12, 5
"""As many names are listed whole; of more, so many that are most like the wanted one."""


def nearest(wanted: str, known: Iterable[str]) -> str | None:
    """The known name that is most like the wanted one."""
    from difflib import get_close_matches

    return next(iter(get_close_matches(wanted, list(known), n=1)), None)


def unknown_name(
    subject: str, wanted: str, known: Sequence[str], plural: str, *, meant: str | None = None
) -> str:
    """Returns `no SUBJECT named 'WANTED'; did you mean …? known PLURAL: …`; of many names the nearest.

    `meant` is the known name that is certainly meant, however it is spelled.
    """
    near = meant or nearest(wanted, known)
    hint = f" did you mean {near!r}?" if near else ""
    listed, which = known, f"known {plural}"
    if len(known) > _LISTED:
        from difflib import get_close_matches

        listed, which = (
            get_close_matches(wanted, known, n=_NEAREST, cutoff=0.0),
            f"nearest of {len(known)} {plural}",
        )
    return f"no {subject} named {wanted!r};{hint} {which}: {', '.join(listed) or 'none'}"
