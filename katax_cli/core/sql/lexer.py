"""The one SQL tokenizer: every other module of this package reads SQL through it.

It is lossless (the texts of all tokens joined are the input) and never raises: a literal or comment
that is not closed reaches to the end of the text. It assumes the servers' default modes
(`standard_conforming_strings` on, no `ANSI_QUOTES`, no `NO_BACKSLASH_ESCAPES`).

The possessive repeats hold no alternatives on purpose: Python before 3.11.5 mishandles
backtracking inside them, and without them a 16 MB blob would need a gigabyte of stack.
"""

import re
from collections.abc import Iterator
from functools import cache, lru_cache
from typing import Literal, NamedTuple

from katax_cli.core.engine_names import Dialect as Dialect

Kind = Literal[
    "space", "comment", "hint", "executable", "string", "quoted", "number",
    "operator", "variable", "param", "word", "punct", "other",
]  # fmt: skip


class Code(NamedTuple):
    """A token that the server runs, words in upper case, with the depth of parentheses that it stands in."""

    kind: str
    text: str
    depth: int


_VALUES = frozenset({"string", "number", "param"})
_MOST_LISTED = 5_000
"""Values and commas of one list that are looked at: millions of them would say no more, and need gigabytes."""

SPACE = " \t\n\r\f\v\ufeff"
# Characters of names: ASCII's, and all beyond ASCII. They are written as what they are not, because a class
# that reaches to U+10FFFF takes milliseconds to compile.
_START = r"[^\x00-@\[-^`{-\x7f]"
_PART = r"[^\x00-/:-@\[-^`{-\x7f]"
_PART_DOLLAR = r"[^\x00-#%-/:-@\[-^`{-\x7f]"
_PART_DOLLAR_DOT = r"[^\x00-#%-\-/:-@\[-^`{-\x7f]"
_WORD = rf"{_START}{_PART_DOLLAR}*+"


def _doubled(quote: str) -> str:
    return f"{quote}[^{quote}]*+(?:{quote}{quote}[^{quote}]*+)*+{quote}?"


def _escaped(quote: str) -> str:
    return rf"{quote}[^{quote}\\]*+(?:(?!{quote}(?!{quote}))[\\{quote}].[^{quote}\\]*+)*+(?:{quote}|\\\Z)?"


_SINGLE = _doubled("'")
_BLOCK = r".*?(?:\*/|\Z)"
_PG_ESCAPED = rf"[eE]{_escaped(chr(39))}(?:[ \t\f\v]*+[\r\n][ \t\f\v\r\n]*+{_escaped(chr(39))})*"
_PG_DOLLAR = (
    rf"\$(?P<tag>(?:{_START}{_PART}*+)?)\$"
    r"[^$]*+(?:(?!\$(?P=tag)\$)\$[^$]*+)*+(?:\$(?P=tag)\$)?"
)
_PUNCT = r"[()\[\],;]|\.\.|\.(?![0-9])"
_NUMBER = (
    r"0[xX][0-9A-Fa-f_]+|0[bB][01_]+|0[oO][0-7_]+"
    r"|(?:[0-9][0-9_]*(?:\.(?!\.)[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9]+)?"
)
# PostgreSQL's own rule: an operator ends in + or - only if it also holds one of ~ ! @ # % ^ & | `.
# `?` is kept out of the runs so that `a=?` is an operator and a placeholder.
_PG_PLAIN = r"(?!--|/\*)[-+*/<>=]"
_PG_OPERATOR = (
    r"\?\?|\?\|(?!\|)|\?&(?!&)|@@(?=\?)|@\?|::|:="
    rf"|(?:{_PG_PLAIN}){{0,14}}[~!@#%^&|`](?:(?!--|/\*|@\?)[-+*/<>=~!@#%^&|`]){{0,14}}"
    rf"|(?:{_PG_PLAIN}){{0,14}}(?!--|/\*)[*/<>=]|[-+]"
)

_LITERALS: dict[Dialect, dict[str, str]] = {
    "postgresql": {
        "comment": r"--[^\r\n]*",
        "open": r"/\*",
        "string": rf"{_PG_ESCAPED}|(?:[nNbBxX]|[uU]&)?{_SINGLE}|{_PG_DOLLAR}",
        "quoted": rf"(?:[uU]&)?{_doubled(chr(34))}",
    },
    "mysql": {
        # No server has version 99.99.99: dumps speak to their client that way.
        "open": r"/\*M?!(?!999999)",
        "hint": rf"/\*\+{_BLOCK}",
        "comment": rf"--(?=[\x00-\x20]|\Z)[^\n]*|#[^\n]*|/\*{_BLOCK}",
        "string": rf"[nNbBxX]?{_escaped(chr(39))}|{_escaped(chr(34))}",
        "quoted": _doubled("`"),
    },
    "sqlite": {
        "comment": rf"--[^\n]*|/\*{_BLOCK}",
        "string": rf"[xX]?{_SINGLE}",
        "quoted": rf"{_doubled(chr(34))}|{_doubled('`')}|\[[^\]]*\]?",
    },
}
_CODE: dict[Dialect, dict[str, str]] = {
    "postgresql": {
        "number": _NUMBER,
        "operator": _PG_OPERATOR,
        "param": rf"\?|\$[0-9]+|:{_WORD}",
        "word": rf"(?![eEnNbBxX]'|[uU]&['\"]){_WORD}",
        "punct": _PUNCT,
    },
    "mysql": {
        # A MySQL name may start with a digit.
        "number": rf"(?:{_NUMBER})(?!{_PART_DOLLAR})",
        "operator": r"::|<=>|<<|>>|<=|>=|<>|!=|:=|\|\||&&|->>|->|[-+*/%<>=!~^&|]",
        "variable": rf"@@?{_PART_DOLLAR_DOT}*+",
        "param": rf"\?|\$[0-9]+(?!{_PART_DOLLAR})|:{_WORD}",
        "word": rf"(?![nNbBxX]'|\$[0-9]+(?!{_PART_DOLLAR})){_PART_DOLLAR}++",
        "punct": _PUNCT,
    },
    "sqlite": {
        "number": _NUMBER,
        "operator": r"::|->>|->|<<|>>|<=|>=|<>|!=|==|\|\||[-+*/%<>=!~&|]",
        "param": rf"\?[0-9]*|[:@$]{_PART}++",
        "word": rf"(?![xX]'){_WORD}",
        "punct": _PUNCT.replace(r"\[", ""),
    },
}
_FREQUENT: dict[Dialect, tuple[str, ...]] = {
    "postgresql": ("word", "punct", "number"),
    "mysql": ("number", "word", "punct"),
    "sqlite": ("word", "punct", "number"),
}
_FLAGS = re.ASCII | re.DOTALL


LAYOUT = frozenset({"space", "comment", "hint"})


def keywords(text: str) -> frozenset[str]:
    """The words of `text` as a set: readable tables of key words."""
    return frozenset(text.split())


class Token(NamedTuple):
    """One piece of SQL; `start` is its character offset."""

    kind: Kind
    text: str
    start: int


def _union(groups: dict[str, str]) -> str:
    return "|".join(f"(?P<{name}>{pattern})" for name, pattern in groups.items())


@cache
def _lexer(dialect: Dialect) -> re.Pattern[str]:
    code = dict(_CODE[dialect])
    # The frequent kinds first: an alternative that fails costs as much as one that matches.
    frequent = {"space": f"[{SPACE}]++"} | {kind: code.pop(kind) for kind in _FREQUENT[dialect]}
    return re.compile(_union(frequent | _LITERALS[dialect] | code | {"other": "."}), _FLAGS)


@lru_cache(maxsize=32)
def skimmer(dialect: Dialect, delimiter: str) -> re.Pattern[str]:
    """The coarse pattern that finds `delimiter` (group `end`) outside literals and comments, fast."""
    end = re.escape(delimiter)
    dashes = r"-(?!-(?:[\x00-\x20]|\Z))" if dialect == "mysql" else "-(?!-)"
    first, signs = re.escape(delimiter[0]), ":;<=>?@".replace(delimiter[0], "")
    plain = {
        # Neither quotes, $, / and - nor the start of a word.
        "postgresql": rf"[\x00-!#%&(-,.0-9{signs}\[-^`{{-\x7f]",
        "mysql": rf"[^'\"`#/\-{first}]",
        "sqlite": rf"[^'\"`\[/\-{first}]",
    }[dialect]
    # Only in PostgreSQL can the letters before a quote change the literal's end, so only there words count.
    word = f"|{_WORD}(?!')" if dialect == "postgresql" else ""
    run = rf"(?:{plain}++|(?!{end}){dashes}|(?!{end})/(?!\*){word}){{1,500}}"
    rest = f"{_WORD}|." if word else "."
    return re.compile(f"(?P<end>{end})|{_union(_LITERALS[dialect])}|{run}|{rest}", _FLAGS)


@cache
def _closer(dialect: Dialect) -> re.Pattern[str]:
    if dialect == "postgresql":
        return re.compile(r"(?P<open>/\*)|(?P<close>\*/)")
    literals = {name: pattern for name, pattern in _LITERALS[dialect].items() if name != "open"}
    return re.compile(f"(?P<close>\\*/)|{_union(literals)}|[^-*/'\"`#]+|.", _FLAGS)


def end_of_open(text: str, start: int, dialect: Dialect) -> int:
    """The end of the comment that opens at `start`: PostgreSQL's nest, MySQL's hold code."""
    depth = 1
    for match in _closer(dialect).finditer(text, start + 2):
        if match.lastgroup == "open":
            depth += 1
        elif match.lastgroup == "close":
            depth -= 1
            if not depth:
                return match.end()
    return len(text)


def find_outside_literals(text: str, sought: str, dialect: Dialect, start: int = 0) -> int:
    """The first position of `sought` outside literals and comments; the length of the text if nowhere."""
    pattern = skimmer(dialect, sought)
    while True:
        for match in pattern.finditer(text, start):
            if match.lastgroup == "end":
                return match.start()
            if match.lastgroup == "open":
                start = end_of_open(text, match.start(), dialect)
                break
        else:
            return len(text)


def comments(text: str, dialect: Dialect) -> Iterator[int]:
    """Where comments begin, but for PostgreSQL's in blocks; several times as fast as by `tokens`."""
    pattern = skimmer(dialect, "\0")
    start: int | None = 0
    while start is not None:
        begin, start = start, None
        for match in pattern.finditer(text, begin):
            if match.lastgroup == "open":
                start = end_of_open(text, match.start(), dialect)
                break
            if match.lastgroup == "comment":
                yield match.start()


def _kind_of_open(text: str, start: int, dialect: Dialect) -> Kind:
    if dialect == "mysql":
        return "executable"
    return "hint" if text.startswith("/*+", start) else "comment"


def tokens(
    text: str, dialect: Dialect, start: int = 0, *, without: frozenset[str] = frozenset()
) -> Iterator[Token]:
    """All tokens from `start` on, comments and white space included; lossless but for kinds `without`; never raises."""
    finditer = _lexer(dialect).finditer
    position: int | None = start
    while position is not None:
        begin, position = position, None
        for match in finditer(text, begin):
            kind = match.lastgroup
            if kind == "open":
                opened = match.start()
                position = end_of_open(text, opened, dialect)
                if (opened_kind := _kind_of_open(text, opened, dialect)) not in without:
                    yield Token(opened_kind, text[opened:position], opened)
                break
            if kind not in without:
                yield Token(kind, match[0], match.start())  # type: ignore[arg-type]  # the groups' names are the kinds


def executable_body(comment: str) -> str:
    """The code inside `/*!50003 code */` without its markers and version."""
    body = comment[3:] if comment[2] == "!" else comment[4:]
    return body.removesuffix("*/").lstrip("0123456789")


def opened_tokens(text: str, dialect: Dialect) -> Iterator[Token]:
    """All tokens, but those inside executable comments in place of the comments, between spaces.

    The `start` of a token inside an executable comment is that of the comment.
    """
    # A stack of its own: nesting may go deeper than Python's.
    stack = [tokens(text, dialect)]
    outer = 0
    while stack:
        token = next(stack[-1], None)
        if token is None:
            stack.pop()
            yield Token("space", " ", outer)
        elif token.kind == "executable":
            outer = token.start if len(stack) == 1 else outer
            yield Token("space", " ", outer)
            stack.append(tokens(executable_body(token.text), dialect))
        else:
            yield token if len(stack) == 1 else token._replace(start=outer)


def code_tokens(text: str, dialect: Dialect) -> Iterator[Token]:
    """The tokens that the server runs: no white space, no comments or hints, executable comments opened."""
    if dialect != "mysql":
        return tokens(text, dialect, without=LAYOUT)
    return (token for token in opened_tokens(text, dialect) if token.kind not in LAYOUT)


def nested_code(text: str, dialect: Dialect) -> list[Code]:
    """Words in upper case with the depth of parentheses they stand in, from the first word on."""
    code = []
    depth = listed = 0
    for token in code_tokens(text, dialect):
        if token.text == ")" and token.kind == "punct":
            depth -= 1
        if token.kind in _VALUES or token.text == ",":
            listed += 1
            if listed > _MOST_LISTED:
                continue
        elif token.text not in ("(", ")"):
            listed = 0
        text_or_word = token.text.upper() if token.kind == "word" else token.text
        code.append(Code(token.kind, text_or_word, depth))
        if token.text == "(" and token.kind == "punct":
            depth += 1
    first = next((index for index, item in enumerate(code) if item.text != "("), len(code))
    return code[first:]


def statement_code(sql: str, dialect: Dialect) -> list[Token]:
    """The tokens that the server runs; of MariaDB's `SET STATEMENT … FOR` those of the statement that follows."""
    code = list(code_tokens(sql, dialect))
    while dialect == "mysql" and [token.text.upper() for token in code[:2]] == ["SET", "STATEMENT"]:
        depth = at = 0
        while at < len(code) and (depth or code[at].text.upper() != "FOR"):
            depth += (code[at].text == "(") - (code[at].text == ")")
            at += 1
        code = code[at + 1 :]
    return code


def mentioned(sql: str, dialect: Dialect) -> set[str]:
    """Every word and name of a statement, in lower case and without quotes."""
    return {token.text.lower().strip('"`[]') for token in code_tokens(sql, dialect)}


def quote_identifier(name: str, dialect: Dialect) -> str:
    """`name` as one identifier of `dialect`; an empty name or one with a NUL is a ValueError."""
    if not name:
        raise ValueError("identifier is empty; give a name")
    if "\0" in name:
        raise ValueError(f"identifier {name!r} holds a NUL character; remove it")
    quote = "`" if dialect == "mysql" else '"'
    return quote + name.replace(quote, quote * 2) + quote
