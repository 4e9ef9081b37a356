"""Objects whose locks and threads a child made by fork may not use."""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Holds locks, threads or connections that belong to the process that made them."""

    def after_fork(self) -> None:
        """Called in the child: a lock may be held for ever, connections and threads are the parent's."""
        ...


_followers: weakref.WeakSet[Forked] = weakref.WeakSet()


def follow(follower: Forked) -> None:
    """Calls `follower.after_fork()` in every child, as long as it lives."""
    _followers.add(follower)


def _forget_parent() -> None:
    for follower in list(_followers):
        follower.after_fork()


os.register_at_fork(after_in_child=_forget_parent)
