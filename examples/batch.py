"""Totals of all orders, once a night. Run it with `python batch.py`; run it again whenever it failed."""

from __future__ import annotations

from collections import Counter

from katax_cli import Katax, Lock, SqlDatabase, Transaction


def totals(main: SqlDatabase) -> Counter[str]:
    """The amounts of each customer, read in constant memory but for the sums."""
    sums: Counter[str] = Counter()
    with main.stream("select customer, amount from orders") as rows:
        for batch in rows:
            for customer, amount in batch:
                sums[customer] += amount
    return sums


def run(main: SqlDatabase) -> int:
    """Replaces the totals by those of now, all or none; how many."""
    sums = totals(main)

    def write(transaction: Transaction) -> None:
        for customer, amount in sums.items():
            row = {"customer": customer, "amount": amount}
            transaction.table("totals").upsert(row, key="customer")

    main.transaction(write)
    return len(sums)


if __name__ == "__main__":
    with Katax() as katax, Lock(katax.redis(), "nightly-totals", ttl=30.0):
        print(run(katax.database("main", type="sqlite")))  # noqa: T201 - the program's answer
