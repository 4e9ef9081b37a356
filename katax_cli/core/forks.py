"""Objects whose locks, threads and connections a child made by fork may not use."""

from __future__ import annotations

import os
import weakref
from itertools import count
from typing import Protocol


class Forked(Protocol):
    """Holds locks, threads or connections that belong to the process that made them."""

    def after_fork(self) -> None:
        """Called in the child: a lock may be held for ever, connections and threads are the parent's."""
        ...


depth = 0
"""The forks between this process and the one that began; it tells what was made in a parent."""

_numbers = count()
_followers: weakref.WeakKeyDictionary[Forked, int] = weakref.WeakKeyDictionary()


def follow(follower: Forked) -> None:
    """Calls `follower.after_fork()` in every child, as long as it lives; those that followed first come first."""
    _followers[follower] = next(_numbers)


def _forget_parent() -> None:
    global depth
    depth += 1
    for follower, _ in sorted(_followers.items(), key=lambda item: item[1]):
        follower.after_fork()


os.register_at_fork(after_in_child=_forget_parent)
