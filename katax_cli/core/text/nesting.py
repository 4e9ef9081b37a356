"""How deep JSON is nested, told without parsing it.

How deep a parser goes, and what is left of the stack by then, depends on the Python that it is part of. And what was
read is written again: katax's writers take three frames of Python's thousand for each level.
"""

from __future__ import annotations

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
    for removed in range(deepest):
        without_innermost = arrays.replace(b"[]", b"")
        if len(without_innermost) == len(arrays):
            # What was never closed is nested, too.
            return removed + arrays.count(b"[") > deepest
        arrays = without_innermost
    return b"[" in arrays
