"""MongoDB on one named connection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from katax_cli.core.engine_names import TABLE_ENGINES
from katax_cli.core.resilience.deadline import NEVER
from katax_cli.core.text.duration import Duration
from katax_cli.engines.base import DocumentEngine, Introspects, Table, TableDescription, require
from katax_cli.services.calls.guard import Safety
from katax_cli.services.databases.clients import ClientDatabase
from katax_cli.snapshot import PoolStats


class MongoDatabase(ClientDatabase):
    """MongoDB."""

    engine: DocumentEngine

    def command(
        self, spec: Mapping[str, Any], *, timeout: Duration | None = None, safety: Safety = Safety.WRITE
    ) -> Mapping[str, Any]:
        """Runs one database command."""
        with self.observer.watch(spec):
            return self._on_connection(
                lambda client, seconds: self.engine.command(client, spec, seconds),
                safety=Safety.READ if self.settings.read_only else safety,
                timeout=timeout,
                doing=next(iter(spec), "command"),
            )

    def tables(self, *, timeout: Duration | None = None) -> list[Table]:
        """Collections and views."""
        engine = require(
            self.engine, Introspects, lacks="tables", wanted_by="db tables", works_on=TABLE_ENGINES
        )
        return self._on_connection(
            engine.tables, safety=Safety.READ, timeout=timeout, doing="listing the collections"
        )

    def describe(self, name: str, *, timeout: Duration | None = None) -> TableDescription | None:
        """One collection: the fields of a sample, and its indexes; None when there is none."""
        engine = require(
            self.engine, Introspects, lacks="tables", wanted_by="db describe", works_on=TABLE_ENGINES
        )
        return self._on_connection(
            lambda client, seconds: engine.describe(client, name, seconds),
            safety=Safety.READ,
            timeout=timeout,
            doing=f"describing {name!r}",
        )

    def maintain(self, *, fill: bool) -> None:
        """Does nothing: pymongo's own monitor closes idle connections and opens up to `min`."""

    def doubt(self) -> None:
        """Does nothing: pymongo drops a server's connections when one of them breaks."""

    def renew(self) -> None:
        """Does nothing: see `doubt`."""

    def opened(self) -> int:
        client = self._client
        return 0 if client is None else self.engine.opened(client)

    def probe(self) -> None:
        client = self._client
        if client is None:
            super().probe()
            return
        with self.guard.translating(deadline=NEVER, safety=Safety.PROBE, doing="probing"):
            self.engine.ping(client, self.settings.connect_timeout)

    def _stats(self, client: Any) -> PoolStats:
        return self.engine.pool_stats(client)

    def _redacted(self, statement: Mapping[str, Any]) -> str:
        """The command, its collection and the names of its options: `find users {filter, limit}`."""
        name, *options = statement or {"": None}
        target = statement.get(name)
        words = [name, *([target] if isinstance(target, str) else [])]
        return " ".join([*words, *([f"{{{', '.join(options)}}}"] if options else [])])

    def _fingerprint(self, statement: Mapping[str, Any]) -> str:
        return self._redacted(statement)
