"""The same job inside a program, in a thread: `python inside.py`. SIGTERM waits for the run under way."""

from __future__ import annotations

import logging
import threading

from shop import remove_old_carts

from katax_cli import Katax, register_shutdown_handlers


def schedule(katax: Katax) -> None:
    """The jobs of this program; they run only while it does, and leave no history."""
    katax.cron(
        name="carts", schedule="0 3 * * *", task=remove_old_carts, timezone="Europe/Madrid", timeout="5m"
    )


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    katax = Katax()
    ended = threading.Event()
    katax.on_shutdown(ended.set)
    register_shutdown_handlers(katax)
    schedule(katax)
    ended.wait()
