"""SQL without its values, for logs and metrics, and SQL reduced to its meaning, for comparing."""

import re

from katax_cli.core.sql.lexer import LAYOUT, SPACE, Dialect, Token, opened_tokens, tokens
from katax_cli.core.sql.split import ScriptPiece, pieces

# Patterns as text are compiled at their first use, which keeps the import cheap.
_IN_LIST = r"(?i)(\bin ?)\( ?[-+]? ?\?(?: ?, ?[-+]? ?\?)+ ?\)"
_ROWS = r"(?i)(\bvalues? ?\([^()]*\))(?: ?, ?\([^()]*(?:\)|\Z))+"
_READ_AHEAD = 16
_FINGERPRINTED = 65_536


def redact(sql: str, dialect: Dialect, *, max_length: int | None = None) -> str:
    """`sql` on one line with every literal and placeholder as `?`, without comments, lists folded.

    Text longer than `max_length` ends in `…`. Idempotent; holds no content of any literal, not even
    of one that is not closed.
    """
    if max_length is None:
        return _fold(_redacted(sql, dialect))
    # A cut inside a literal leaves one that is not closed, which is redacted like the others.
    head = sql[: max_length * _READ_AHEAD]
    shown = _fold(_redacted(head, dialect))
    if len(shown) <= max_length and len(head) == len(sql):
        return shown
    return shown[: max(max_length - 1, 0)].rstrip() + "…"


def fingerprint(sql: str, dialect: Dialect) -> str:
    """Twelve hexadecimal digits that are equal for statements that differ in values, case or layout only.

    Reads the first 65,536 characters; stable over processes and versions of Python.
    """
    # Costs more to import than all of this package, and only metrics need it.
    from hashlib import blake2b

    shape = _fold(_redacted(sql[:_FINGERPRINTED], dialect, lower=True))
    return blake2b(shape.encode("utf-8", "surrogatepass"), digest_size=6).hexdigest()


def normalise(text: str, dialect: Dialect) -> str:
    """The meaning of a script: equal for texts that differ only in layout, comments and line ends.

    Literals, executable comments and hints stay as they are. Idempotent; to be compared, not to be run.
    """
    normal = [_normal_statement(piece, dialect) for piece in pieces(text, dialect)]
    return "".join(normal).removesuffix(" ;\n")


def _normal_statement(statement: ScriptPiece, dialect: Dialect) -> str:
    parts = tokens(statement.text, dialect)
    kept = [token.text for token in parts if token.kind not in ("space", "comment")]
    body = " ".join(kept).strip(SPACE + ";")
    data = statement.copy_data
    if data is None:
        # MySQL's `--;` is code, but without its terminator it is a comment.
        return f"{body} ;\n" if body else ""
    return f"{body} ;\n" + data.replace("\r\n", "\n") + "\\.\n"


def _redacted(sql: str, dialect: Dialect, *, lower: bool = False) -> str:
    out: list[str] = []
    spaced = in_values = False
    for token in opened_tokens(sql, dialect):
        if token.kind in LAYOUT:
            spaced = True
            continue
        text = "?" if _is_value(token, dialect, out, in_values) else token.text
        if token.kind == "word":
            in_values = in_values or text.upper() in ("VALUES", "VALUE")
            text = text.lower() if lower else text
        # A space that was not there keeps `??` from becoming PostgreSQL's operator;
        # one that is left out keeps `--` from becoming MySQL's comment.
        glued = out[-2:] == ["-", "-"]
        if out and ((spaced and not glued) or (text == "?" and out[-1] == "?")):
            out.append(" ")
        out.append(text)
        spaced = False
    while out[-2:] == ["-", "-"]:
        del out[-2:]
    return "".join(out).rstrip(" ")


def _is_value(token: Token, dialect: Dialect, out: list[str], in_values: bool) -> bool:
    if token.kind in ("string", "number", "param"):
        return True
    if token.kind != "quoted":
        return False
    if not _is_closed(token.text):
        return True
    # SQLite takes "text" for a string where no column has that name.
    before = next((text for text in reversed(out) if text != " "), "")
    return dialect == "sqlite" and token.text[0] == '"' and (in_values or before in _COMPARISONS)


_COMPARISONS = frozenset({"=", "==", "<>", "!=", "<", ">", "<=", ">=", "||"})


def _is_closed(text: str) -> bool:
    if text[0] == "[":
        return text[-1] == "]"
    quote = text[-1]
    return quote in '"`' and len(text) > 1 and text.count(quote) % 2 == 0


def _fold(text: str) -> str:
    return re.sub(_ROWS, r"\1", re.sub(_IN_LIST, r"\1(?)", text))
