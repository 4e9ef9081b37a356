"""The kernel's list of connections, read for this process."""

from __future__ import annotations

import os
import socket

from katax_cli.services.shutdown_drill.ports import client_ports


def test_ports_of_connections_are_found_and_those_listened_on_are_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        at = listener.getsockname()
        with socket.create_connection(at) as client:
            port = client.getsockname()[1]
            found = client_ports([os.getpid()])

            assert port in found
            assert at[1] not in found
        assert port not in client_ports([os.getpid()])


def test_a_process_that_is_gone_has_none() -> None:
    assert client_ports([2**22 + 1]) == frozenset()
