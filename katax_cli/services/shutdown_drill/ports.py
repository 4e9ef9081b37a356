"""The ports that processes are connected from, as the kernel lists them (Linux)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator

_LISTENING = "0A"


def client_ports(pids: Iterable[int]) -> frozenset[int]:
    """The local TCP ports of all connections that these processes hold; of a process that is gone none."""
    return frozenset(port for pid in pids for port in _of_process(pid))


def _of_process(pid: int) -> Iterator[int]:
    inodes = set(_sockets(pid))
    if inodes:
        for table in ("tcp", "tcp6"):
            # Its own table: a process in a container has a network of its own.
            yield from _listed(f"/proc/{pid}/net/{table}", inodes)


def _sockets(pid: int) -> Iterator[str]:
    try:
        for descriptor in os.listdir(f"/proc/{pid}/fd"):
            target = _link(f"/proc/{pid}/fd/{descriptor}")
            if target.startswith("socket:["):
                yield target[len("socket:[") : -1]
    except OSError:
        return


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _listed(path: str, inodes: set[str]) -> Iterator[int]:
    """Lines as in proc(5): number, local address, remote address, state, …, inode in the tenth place."""
    try:
        with open(path, encoding="ascii") as file:
            for line in file:
                fields = line.split()
                if len(fields) > 9 and fields[9] in inodes and fields[3] != _LISTENING:
                    yield int(fields[1].rpartition(":")[2], 16)
    except OSError:
        return
