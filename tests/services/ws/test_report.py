"""What a Socket.IO server tells the state database of itself."""

from __future__ import annotations

from katax_cli.services.ws.report import SocketReport
from tests.fake_clock import FakeClock
from tests.services.ws.conftest import MakeClient, MakeServer, soon
from tests.waiting import until


def test_clients_rooms_and_rates(serve: MakeServer, join: MakeClient) -> None:
    clock = FakeClock()
    server = serve(auth_token="t0ken")
    server.on("ask", lambda data: data)
    told = SocketReport(lambda: [server], clock=clock)
    assert told() == [
        {
            "name": "test",
            "clients": 0,
            "rooms": 0,
            "received_per_second": None,
            "emitted_per_second": None,
            "refused": 0,
            "trouble": None,
        }
    ]

    one, other = join(server, token="t0ken"), join(server, token="t0ken")
    other.connect(deadline=soon())
    assert one.join("r", deadline=soon())["ok"] is True
    assert one.join("s", deadline=soon())["ok"] is True
    for _ in range(6):
        one.call("ask", 1, deadline=soon())
    for _ in range(4):
        server.emit("news", 1)
    clock.at = 2.0

    (row,) = told()
    # Two of the events went to join rooms.
    assert (row["clients"], row["rooms"], row["received_per_second"], row["emitted_per_second"]) == (
        2,
        2,
        4.0,
        2.0,
    )
    one.close()
    until(lambda: (told()[0]["clients"], told()[0]["rooms"]) == (1, 0))


def test_one_that_ends_is_in_trouble(serve: MakeServer) -> None:
    server = serve()
    told = SocketReport(lambda: [server])
    server.close()

    assert told()[0]["trouble"] == "it is closing"
