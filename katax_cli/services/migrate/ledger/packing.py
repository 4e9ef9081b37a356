"""Long texts as the ledger keeps them: compressed, in parts that every server takes in one packet. Pure."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Sequence
from zlib import compress, decompress

WHOLE = 65_536
"""Characters up to which a text is kept as it is."""
_PART = 262_144
_MARK = "katax:packed "


def packed(text: str) -> str:
    """The text itself while it is short."""
    return text if len(text) <= WHOLE else _MARK + b64encode(compress(text.encode())).decode()


def unpacked(text: str) -> str:
    return decompress(b64decode(text.removeprefix(_MARK))).decode() if text.startswith(_MARK) else text


def parts(text: str) -> Sequence[str]:
    """A packed text in pieces; their sum is `unpacked`."""
    whole = packed(text)
    return [whole[start : start + _PART] for start in range(0, len(whole), _PART)]
