"""Packets that nearly parse, in any order and over both transports: the server goes on, and keeps nothing of them."""

from __future__ import annotations

import random
import urllib.request
from contextlib import suppress
from urllib.error import HTTPError

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from katax_cli.services.ws.server import Sockets
from tests.services.ws.conftest import HANDSHAKE, MakeClient, MakeServer, soon
from tests.waiting import SECONDS, until

SEEDS: list[str | bytes] = [
    "40",
    '40{"token":"x"}',
    "40/katax,{}",
    "41",
    "41/katax,",
    '42["echo",1]',
    '427["echo",{"a":[1,2.5,"ä\\ud83d",null,true]}]',
    '42["join",{"room":"r"}]',
    '42["leave","r"]',
    '42/katax,1["clients"]',
    "43[]",
    "437[1]",
    '44{"message":"x"}',
    '451-["echo",{"_placeholder":true,"num":0}]',
    '452-9["echo",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]',
    '461-["x"]',
    "0",
    "1",
    "2probe",
    "3",
    "5",
    "6",
    "bAAAA",
    b"",
    b"\x00\xff" * 20,
]
PIECES = (
    "[",
    "]",
    "{",
    "}",
    '"',
    "-",
    "/",
    ",",
    "9" * 12,
    "1e999",
    "NaN",
    "\\ud800",
    "\x1e",
    "²",
    "é",
    "\x00",
    "b",
)


def mutated(message: str | bytes, dice: random.Random) -> str | bytes:
    """The message with some of it doubled, dropped, or replaced."""
    if isinstance(message, bytes):
        return message * dice.choice((0, 1, 3, 1000))
    for _change in range(dice.choice((0, 0, 1, 1, 2, 5))):
        at = dice.randrange(len(message) + 1)
        until_ = min(len(message), at + dice.randrange(4))
        middle = dice.choice(("", message[at:until_] * dice.choice((2, 50)), dice.choice(PIECES)))
        message = message[:at] + middle + message[until_:]
    return message


def attack_by_websocket(server: Sockets, dice: random.Random) -> None:
    """One connection and some messages; most begin by joining."""
    url = server.url.replace("http", "ws") + HANDSHAKE + "websocket"
    opening = connect(url, proxy=None, compression=None, open_timeout=SECONDS, close_timeout=0.1)
    with opening as bad, suppress(ConnectionClosed):
        if dice.random() < 0.8:
            bad.send("40")
        for _message in range(dice.randrange(1, 8)):
            bad.send(mutated(dice.choice(SEEDS), dice))


def attack_by_polling(server: Sockets, dice: random.Random) -> None:
    """The same by requests."""
    url = server.url + HANDSHAKE + "polling"
    with urllib.request.urlopen(url, timeout=SECONDS) as answer:
        sid = answer.read().split(b'"')[3].decode()
    messages = [mutated(dice.choice(SEEDS), dice) for _message in range(dice.randrange(1, 8))]
    texts = ["40", *(one for one in messages if isinstance(one, str))]
    for body in ("\x1e".join(texts), "1"):
        request = urllib.request.Request(f"{url}&sid={sid}", data=body.encode())
        with suppress(HTTPError, ConnectionError), urllib.request.urlopen(request, timeout=SECONDS) as answer:
            answer.read()


def test_no_message_harms_the_server_or_another_client(
    serve: MakeServer, join: MakeClient, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    server.on("echo", lambda data: data)
    good = join(server)
    good.connect(deadline=soon())
    dice = random.Random(11)

    for number in range(150):
        (attack_by_websocket if number % 3 else attack_by_polling)(server, dice)
        if number % 10 == 0:
            assert good.call("echo", number, deadline=soon()) == number

    until(lambda: len(server.clients) == len(server.io.eio.scopes) == len(server.io._inboxes) == 1)
    until(lambda: server.io._binary_packet == {})
    ours = [one for one in caplog.records if not one.name.startswith("websockets")]
    assert [one.getMessage() for one in ours if one.exc_info] == []
    assert good.call("echo", "end", deadline=soon()) == "end"
