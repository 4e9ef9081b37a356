"""What the jobs of this folder do; no job knows who runs it."""

from __future__ import annotations

from katax_cli import Katax

WEEK = "delete from carts where made_at < datetime('now', '-7 days')"


def remove_old_carts() -> None:
    """Of more than a week ago; may be repeated."""
    with Katax() as katax:
        removed = katax.database("main", type="sqlite").execute(WEEK)
        print(f"{removed} carts removed")  # noqa: T201 - kept as the output of the run
