"""Packets of Socket.IO within bounds: strict JSON of limited depth, attachments that count as one message."""

from __future__ import annotations

import json
import math
from typing import Any

from socketio import packet

from katax_cli.core.text.js_json import jsonable, refuse_constant
from katax_cli.core.text.nesting import check_nesting
from katax_cli.services.ws.values import MAX_ATTACHMENTS, MAX_DEPTH, MAX_MESSAGE_BYTES

MALFORMED = (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError)
"""What Socket.IO's parsers raise for packets that are none."""
BINARY = (packet.BINARY_EVENT, packet.BINARY_ACK)


class StrictJson:
    """JSON that every other language reads: no NaN and infinity, neither way; values as in `core.text.js_json`."""

    @staticmethod
    def dumps(value: Any, **_options: Any) -> str:
        try:
            text = _dumps(value, ensure_ascii=False)
        except TypeError as error:
            raise ValueError(f"the data has no JSON form: {error}; convert it first") from error
        except RecursionError:
            raise ValueError("the data is nested too deeply for JSON") from None
        # Half of a surrogate pair has no UTF-8, and would end the connection of each who is sent it.
        return text if text.isascii() or not _has_surrogates(text) else _dumps(value, ensure_ascii=True)

    @staticmethod
    def loads(text: str | bytes, **_options: Any) -> Any:
        if isinstance(text, str):
            check_nesting(text, MAX_DEPTH)
        return json.loads(text, parse_constant=refuse_constant, parse_float=_finite)


class WirePacket(packet.Packet):  # type: ignore[misc]
    """A packet in strict JSON; other Socket.IO servers of the process keep theirs.

    A packet and its attachments are at most as large as one message, and each attachment has exactly one place:
    one that stood in ten thousand places would be sent on ten thousand times.
    """

    json = StrictJson
    largest = MAX_MESSAGE_BYTES
    size = 0

    def decode(self, encoded_packet: str) -> int:
        count = int(super().decode(encoded_packet))
        self.size = len(encoded_packet)
        if self.packet_type in BINARY:
            if not 1 <= count <= MAX_ATTACHMENTS:
                raise ValueError(f"a binary packet has 1 to {MAX_ATTACHMENTS} attachments")
        elif count:
            raise ValueError("only binary packets have attachments")
        return count

    def add_attachment(self, attachment: Any) -> bool:
        if not isinstance(attachment, bytes):
            raise ValueError("an attachment is binary")
        self.size += len(attachment)
        if self.size > self.largest:
            raise ValueError(f"more than {self.largest} bytes with all attachments")
        return bool(super().add_attachment(attachment))

    @classmethod
    def reconstruct_binary(cls, data: Any, attachments: list[bytes]) -> Any:
        unplaced = dict(enumerate(attachments))
        data = _placed(data, unplaced)
        if unplaced:
            raise ValueError("an attachment has no place in the data")
        return data


def _placed(data: Any, unplaced: dict[int, bytes]) -> Any:
    if isinstance(data, list):
        return [_placed(item, unplaced) for item in data]
    if not isinstance(data, dict):
        return data
    if data.get("_placeholder") is True and "num" in data:
        return unplaced.pop(data["num"])
    return {key: _placed(value, unplaced) for key, value in data.items()}


def _dumps(value: Any, *, ensure_ascii: bool) -> str:
    return json.dumps(
        value, allow_nan=False, ensure_ascii=ensure_ascii, separators=(",", ":"), default=jsonable
    )


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:30]} is beyond what a number holds")
    return value
