"""The operations and open transactions of a MongoDB server (currentOp), and how to end them.

https://www.mongodb.com/docs/manual/reference/command/currentOp/
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.errors import OperationFailure

from katax_cli.engines.activity import ActivityList, Pid, SessionActivity
from katax_cli.engines.documents import DocumentEngine
from katax_cli.engines.mongodb.metrics import redacted
from katax_cli.engines.parts import EnginePart
from katax_cli.errors import ConfigError

_UNSEEN = "operations of other users are hidden; the privilege inprog (role clusterMonitor) shows them"
_UNAUTHORIZED = 13
_NOT_LISTED = "{name!r} does not list its operations; only MongoDB's own server does"
_NO_SESSION = (
    "operation {pid} of {name!r} runs in no session, and connections cannot be ended; "
    "'katax db cancel {pid}' ends the operation"
)


class MongoActivity(EnginePart[DocumentEngine]):
    """ListsActivity and EndsSessions."""

    def activity(self, connection: Any, timeout: float | None = None) -> ActivityList:
        """Of the server that answers: operations by their opid, transactions between two statements by their session.

        Raises ConfigError where the answer does not even hold the question, which is not MongoDB's own server.
        """
        try:
            operations, is_all = self._operations(connection, timeout, {"$all": True}), True
        except OperationFailure as error:
            if error.code != _UNAUTHORIZED:
                raise
            operations, is_all = self._operations(connection, timeout, {"$ownOps": True}), False
        sessions, own = listed(operations)
        if own is None:
            raise ConfigError(_NOT_LISTED.format(name=self._engine.settings.name))
        return ActivityList(sessions, own, () if is_all else (_UNSEEN,))

    def cancel(self, connection: Any, target: SessionActivity, timeout: float | None = None) -> bool:
        """The opid is of one operation and is not used again soon."""
        self._engine.command(connection, {"killOp": 1, "op": target.pid}, timeout, database="admin")
        return True

    def terminate(self, connection: Any, target: SessionActivity, timeout: float | None = None) -> bool:
        """Ends the logical session: what runs in it, its cursors, its transaction. Raises ConfigError without one."""
        lsid = next(
            (
                operation["lsid"]
                for operation in self._operations(connection, timeout, {"$all": True})
                if "lsid" in operation and _pid(operation) == target.pid
            ),
            None,
        )
        if lsid is None:
            raise ConfigError(_NO_SESSION.format(pid=target.pid, name=self._engine.settings.name))
        pattern = {"lsid": {"id": lsid["id"], "uid": lsid["uid"]}}
        spec = {"killAllSessionsByPattern": [pattern]}
        self._engine.command(connection, spec, timeout, database="admin")
        return True

    def _operations(
        self, connection: Any, timeout: float | None, which: Mapping[str, bool]
    ) -> list[Mapping[str, Any]]:
        answer = self._engine.command(connection, {"currentOp": 1, **which}, timeout, database="admin")
        return [entry for entry in answer.get("inprog") or () if isinstance(entry, Mapping)]


def listed(operations: Sequence[Mapping[str, Any]]) -> tuple[tuple[SessionActivity, ...], Pid | None]:
    """Those of clients, the busiest first, and the opid of the question itself; None where it is not among them."""
    own = next((entry["opid"] for entry in operations if "currentOp" in (entry.get("command") or ())), None)
    of_clients = [
        entry for entry in operations if (entry.get("client") or entry.get("client_s") or "lsid" in entry)
    ]
    sessions = [_session(entry) for entry in of_clients if entry.get("opid") != own or own is None]
    return tuple(sorted(sessions, key=_idleness)), own


def _session(operation: Mapping[str, Any]) -> SessionActivity:
    users: Sequence[Mapping[str, Any]] = operation.get("effectiveUsers") or ({},)
    transaction = operation.get("transaction") or {}
    opened = (transaction.get("timeOpenMicros"), operation.get("microsecs_running"))
    pid = _pid(operation)
    is_active = bool(operation.get("active"))
    idle_state = "idle in transaction" if transaction else "idle"
    return SessionActivity(
        pid,
        users[0].get("user"),
        str(operation.get("client") or operation.get("client_s") or "").rpartition(":")[0] or None,
        str(operation.get("ns") or "").partition(".")[0] or None,
        "active" if is_active else idle_state,
        "lock" if operation.get("waitingForLock") else None,
        _seconds(opened[1]),
        _seconds(opened[0]),
        redacted(operation) if operation.get("command") else None,
        str(pid),
        str(pid) if is_active and "opid" in operation else None,
    )


def _pid(operation: Mapping[str, Any]) -> Pid | None:
    """The opid (with a shard's name on a mongos); of an idle transaction its session; None of an idle connection."""
    if "opid" in operation and operation.get("active"):
        return operation["opid"] if isinstance(operation["opid"], int) else str(operation["opid"])
    if operation.get("lsid") is None:
        return None
    id = operation["lsid"]["id"]
    return str(id.as_uuid() if hasattr(id, "as_uuid") else id)


def _idleness(session: SessionActivity) -> tuple[bool, bool, float, float]:
    return (
        session.pid is None,
        session.work is None,
        -(session.transaction_age_seconds or 0),
        -(session.age_seconds or 0),
    )


def _seconds(micros: Any) -> float | None:
    return None if micros is None else round(float(micros) / 1e6, 3)


create = MongoActivity
