"""Jobs from a table, by as many workers as there are processes. Run it with `python worker.py`; SIGTERM ends it."""

from __future__ import annotations

import logging
import threading

from katax_cli import Katax, OutcomeUnknown, SqlDatabase, Transaction, Unavailable, register_shutdown_handlers

PAUSE = 1.0
"""Seconds between two looks at an empty table, or at a database that is gone."""
log = logging.getLogger("worker")


def claim_and_do(transaction: Transaction) -> bool:
    """One job, claimed and done in one transaction; False when there is none."""
    claim = "select id, payload from jobs where done is null order by id for update skip locked limit 1"
    rows = transaction.query(claim)
    for row in rows:
        log.info("job %s: %s", row["id"], row["payload"])
        transaction.execute("update jobs set done = now() where id = $1", [row["id"]])
    return bool(rows)


def work(main: SqlDatabase, ended: threading.Event) -> None:
    """Until the end is asked for."""
    while not ended.is_set():
        try:
            did = main.transaction(claim_and_do)
        except (Unavailable, OutcomeUnknown) as error:
            log.warning("%s", error)
            did = False
        if not did:
            ended.wait(PAUSE)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    katax = Katax()
    ended = threading.Event()
    katax.on_shutdown(ended.set)
    register_shutdown_handlers(katax)
    work(katax.database("main", type="postgresql"), ended)
