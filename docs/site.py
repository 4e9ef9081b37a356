"""A hook of mkdocs: links to files of the repository beside docs/, which the site does not hold, become their names."""

from __future__ import annotations

import re
from typing import Any

_LINK = re.compile(r"\[([^\]]+)\]\((?P<path>(?:\.\./)+[^)#]+)(?:#[^)]*)?\)")


def on_page_markdown(markdown: str, page: Any, **_more: Any) -> str:
    """The page without links that lead out of docs/."""
    depth = page.file.src_uri.count("/")

    def inside(link: re.Match[str]) -> str:
        return link[0] if link["path"].count("../") <= depth else link[1]

    return _LINK.sub(inside, markdown)
