"""The depth of nesting of JSON, found without parsing it.

How deep a parser goes, and what is left of the stack by then, depends on the Python that it is part of. And what was
read is written again: katax's writers take three frames of Python's thousand for each level.
"""

from __future__ import annotations

from itertools import accumulate

DEEPEST = 250
"""Arrays and objects within one another that are read from foreign JSON."""
_OTHERS = bytes(set(range(256)) - set(b'[]{}"'))
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")


def check_nesting(text: str, deepest: int = DEEPEST) -> None:
    """Raises ValueError for JSON that is nested deeper. What is no JSON may pass: its parser refuses it."""
    if text.count("[") + text.count("{") > deepest and _is_deeper(text, deepest):
        raise ValueError(f"nested deeper than {deepest}")


def _is_deeper(text: str, deepest: int) -> bool:
    data = text.encode("utf-8", "surrogatepass")
    if b"\\" in data:
        data = data.replace(rb"\\", b"").replace(rb"\"", b"")
    # Two strings side by side are as good as one, so most strings are gone before they are looked for.
    marks = data.translate(_AS_ARRAYS, _OTHERS).replace(b'""', b"")
    arrays = b"".join(marks.split(b'"')[::2])
    # One step for each bracket, however deep: 1 up for "[" (0x5b), 1 down for "]" (0x5d).
    return max(accumulate(map(0x5C.__sub__, arrays)), default=0) > deepest
