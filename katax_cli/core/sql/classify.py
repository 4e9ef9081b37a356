"""The effect of a statement, read from its syntax alone.

This decides on confirmations and retries. It is no guard: a SELECT may call a function that
writes, so read-only sessions are enforced by the server. What is not recognised is "unknown", never "read".
"""

import re
from dataclasses import dataclass, replace
from itertools import pairwise, product, takewhile
from typing import Literal

from katax_cli.core.sql.lexer import Code, Dialect, keywords, nested_code, skimmer
from katax_cli.core.sql.split import pieces, routine_kind

StatementKind = Literal["read", "write", "ddl", "transaction", "session", "copy", "unknown"]


@dataclass(frozen=True, slots=True)
class Classification:
    """`verb` in upper case; `destructive` as the confirmation rules mean it, then `reason` says why.

    `disruptive`: changes who may do what, or how the server runs. A `reason` without `destructive` is a remark, such
    as "COPY PROGRAM".
    """

    verb: str
    kind: StatementKind
    destructive: bool = False
    reason: str | None = None
    disruptive: bool = False
    changes_rows: bool = False
    """Contains UPDATE, DELETE or MERGE: it changes rows that are there."""
    uncounted: bool = False
    """Changes more than what the server counts: WITH counts its last query only, EXPLAIN ANALYZE none."""


_KINDS: dict[StatementKind, str] = {
    "read": "SELECT VALUES TABLE SHOW DESCRIBE DESC FETCH HELP",
    "write": "INSERT UPDATE DELETE MERGE REPLACE CALL DO REFRESH",
    "ddl": """CREATE ALTER DROP TRUNCATE RENAME COMMENT GRANT REVOKE REINDEX CLUSTER REASSIGN SECURITY IMPORT
        VACUUM ANALYZE OPTIMIZE REPAIR CHECKPOINT INSTALL UNINSTALL""",
    "transaction": "BEGIN START COMMIT ROLLBACK SAVEPOINT RELEASE END ABORT XA LOCK",
    "session": """SET RESET USE ATTACH DETACH LISTEN UNLISTEN NOTIFY DISCARD DEALLOCATE PREPARE DECLARE CLOSE
        MOVE UNLOCK""",
}
_KIND_OF: dict[str, StatementKind] = {verb: kind for kind, verbs in _KINDS.items() for verb in verbs.split()}
_ROW_CHANGES = frozenset({"UPDATE", "DELETE", "MERGE"})
_CHANGES = _ROW_CHANGES | {"INSERT"}
_MAIN = _CHANGES | {"SELECT", "VALUES", "TABLE", "REPLACE"}
_EXPLAINABLE = _MAIN | {"WITH", "EXECUTE", "CREATE", "DECLARE", "REFRESH", "CALL"}
_SEVERITY: tuple[StatementKind, ...] = ("read", "session", "transaction", "copy", "unknown", "write", "ddl")
_READING_PRAGMAS = keywords(
    """TABLE_INFO TABLE_XINFO TABLE_LIST INDEX_LIST INDEX_INFO INDEX_XINFO FOREIGN_KEY_LIST FOREIGN_KEY_CHECK
    INTEGRITY_CHECK QUICK_CHECK"""
)
_COMMITTING = keywords("LOCK UNLOCK FLUSH CHECK CACHE RESET CHANGE STOP")
_ACTING_PRAGMAS = frozenset({"OPTIMIZE", "INCREMENTAL_VACUUM", "WAL_CHECKPOINT", "SHRINK_MEMORY"})
_HARMLESS_DROPS = frozenset({"NOT", "DEFAULT", "EXPRESSION", "IDENTITY"})
_LOSSY_ACTIONS = {("TRUNCATE", "PARTITION"), ("DISCARD", "PARTITION"), ("DISCARD", "TABLESPACE")}
_DROPPED_FIRST = frozenset({"TABLE", "DATABASE", "SCHEMA", "SEQUENCE"})
_SERVER_WIDE_VERBS = keywords("GRANT REVOKE REASSIGN INSTALL UNINSTALL")
_SERVER_WIDE = {
    *product(("ALTER", "CREATE", "RENAME"), ("ROLE", "USER", "GROUP")),
    *product(("RESET",), ("MASTER", "SLAVE", "REPLICA", "PERSIST")),
    *(("ALTER", what) for what in ("SYSTEM", "DATABASE", "SCHEMA", "DEFAULT", "POLICY")),
}
_OF_THE_SERVER = r"(?i)(?:PASSWORD|GLOBAL|PERSIST(?:_ONLY)?)\Z|@@(?:GLOBAL(?:\.|\Z)|PERSIST)"
# Patterns as text are compiled at their first use, which keeps the import cheap.
_LOSSY_WORD = r"(?i)\b(DROP|TRUNCATE|DELETE|(?<!KEY )(?<!DO )UPDATE)\b"
_RUNS_UNSEEN = r"(?i)\b(?:EXECUTE|CALL)\b"
# What MySQL 5.6 did not run yet. MariaDB runs none of it, nor does MySQL what is for MariaDB.
_CONDITIONAL = r"(?s)/\*(?:M!|!(?=\d{6}|[6-9]\d{4}|5[1-9]\d{3}|50[7-9]\d\d)).*?\*/"
_BULK = r"(?i)\s*(?:INSERT|REPLACE)\b"
_BULK_LENGTH = 16_384
_NOTHING = Code("other", "", 0)


def classify(statement: str, dialect: Dialect) -> Classification:
    """The effect of `statement`; of several statements in one text the gravest counts. Never raises.

    What only some servers run (`/*!80000 … */`) counts both ways.
    """
    effect = _effect(statement, dialect)
    if dialect == "mysql" and "/*" in statement and re.search(_CONDITIONAL, statement):
        elsewhere = _effect(re.sub(_CONDITIONAL, " ", statement), dialect)
        return _gravest([effect, elsewhere]) if elsewhere.verb else effect
    return effect


def _effect(statement: str, dialect: Dialect) -> Classification:
    if ";" not in statement and len(statement) <= _BULK_LENGTH:
        return _classify(nested_code(statement, dialect), dialect)
    # Executable comments may hold `;` too, hence the second cut.
    classifications = [
        _classify(code, dialect)
        for piece in pieces(statement, dialect)
        for code in _cut(_shortened(piece.text, dialect), dialect)
    ]
    return _gravest(classifications) if classifications else Classification("", "unknown")


def commits_by_itself(statement: str, dialect: Dialect, effect: Classification) -> bool:
    """True for what MySQL commits before and after it runs, along with everything before it in the transaction."""
    if dialect != "mysql" or not (effect.kind == "ddl" or effect.verb in _COMMITTING):
        return False
    return "TEMPORARY" not in _words(nested_code(statement[:_BULK_LENGTH], dialect))[1:4]


def _gravest(classifications: list[Classification]) -> Classification:
    gravest = max(classifications, key=lambda one: (one.destructive, _SEVERITY.index(one.kind)))
    kind = max((classification.kind for classification in classifications), key=_SEVERITY.index)
    return replace(
        gravest,
        kind=kind,
        disruptive=any(classification.disruptive for classification in classifications),
        changes_rows=any(classification.changes_rows for classification in classifications),
        uncounted=any(classification.uncounted for classification in classifications),
    )


def _shortened(text: str, dialect: Dialect) -> str:
    """The head of a bulk INSERT, which alone says what it does where no other change is named in the rest."""
    if len(text) <= _BULK_LENGTH or not re.match(_BULK, text):
        return text
    code = []
    for match in skimmer(dialect, ";").finditer(text):
        if match.lastgroup == "open":
            return text
        if match.lastgroup not in ("string", "quoted", "comment"):
            code.append(match[0])
    return text if re.search(_LOSSY_WORD, " ".join(code)) else text[:_BULK_LENGTH]


def _cut(text: str, dialect: Dialect) -> list[list[Code]]:
    code = nested_code(text, dialect)
    if dialect != "mysql" or routine_kind(text, dialect):
        return [code]
    parts: list[list[Code]] = [[]]
    for item in code:
        if item.text == ";":
            parts.append([])
        else:
            parts[-1].append(item)
    return [part for part in parts if part]


def _classify(code: list[Code], dialect: Dialect) -> Classification:
    verb = code[0].text if code and code[0].kind == "word" else ""
    special = _SPECIAL.get(verb)
    classification = (
        special(code, dialect) if special else Classification(verb, _KIND_OF.get(verb, "unknown"))
    )
    words = [word for word in _words(code[:4]) if word not in ("OR", "REPLACE")]
    by_words = words[:1] and (words[0] in _SERVER_WIDE_VERBS or tuple(words[:2]) in _SERVER_WIDE)
    if by_words or (classification.verb, classification.kind) == ("SET", "ddl"):
        return replace(classification, disruptive=True)
    if verb == "CALL" or (verb and classification.kind == "unknown" and special not in (_explain, _prepare)):
        # What it runs is neither seen nor counted; MariaDB's `IF … THEN` and `LOOP` run anything, for instance.
        hidden = replace(classification, disruptive=True, uncounted=True)
        return hidden if verb == "CALL" else _block(hidden, "block", code)
    if classification.kind in ("read", "write", "copy") and special not in (_explain, _analyze):
        return _with_changes(classification, code, dialect)
    return classification


def _with_changes(classification: Classification, code: list[Code], dialect: Dialect) -> Classification:
    """Searches INSERT, UPDATE, DELETE and MERGE at the start of the statement and of every parenthesis."""
    changes = _changes(code)
    if changes and classification.kind == "read":
        classification = replace(classification, kind="write")
    if any(code[index].text in _ROW_CHANGES for index in changes):
        classification = replace(classification, changes_rows=True)
    if any(index != _main(code) for index in changes):
        classification = replace(classification, uncounted=True)
    if not classification.destructive:
        for index in changes:
            verb = code[index].text
            every = _why_every_row(code, index, dialect) if verb in ("UPDATE", "DELETE") else None
            if every:
                return replace(classification, destructive=True, reason=f"{verb} {every}")
    return classification


def _why_every_row(code: list[Code], index: int, dialect: Dialect) -> str | None:
    # Most commands see no UPDATE or DELETE, and conditions are the larger part of this package.
    from katax_cli.core.sql.where import why_every_row

    return why_every_row(code, index, dialect)


def _changes(code: list[Code]) -> list[int]:
    """The positions where changes begin; `insert(` is MySQL's function and `FOR UPDATE` no statement."""
    main = _main(code)
    return [
        index
        for index, item in enumerate(code)
        if item.text in _CHANGES
        and item.kind == "word"
        and (index == main or (_at(code, index - 1).text == "(" and _at(code, index + 1).text != "("))
    ]


def _main(code: list[Code]) -> int:
    """The position of the statement itself, behind WITH and its queries."""
    if _at(code, 0).text != "WITH":
        return 0
    # `WITH update AS (…)` names a query, hence not directly after WITH, RECURSIVE or a comma.
    names = {"WITH", "RECURSIVE", ","}
    for index in range(1, len(code)):
        item = code[index]
        if item.text in _MAIN and item.depth == code[0].depth and code[index - 1].text not in names:
            return index
    return 0


def _explained(code: list[Code]) -> int:
    depth = code[0].depth
    for index in range(1, len(code)):
        if code[index].text in _EXPLAINABLE and code[index].depth == depth:
            return index
    # EXPLAIN (ANALYZE) (SELECT …)
    return next((i for i in range(1, len(code)) if code[i].text in _MAIN), 0)


def _at(code: list[Code], index: int) -> Code:
    return code[index] if 0 <= index < len(code) else _NOTHING


def _words(code: list[Code]) -> list[str]:
    return [item.text for item in code if item.kind == "word"]


def _has_pair(words: list[str], first: str, seconds: frozenset[str] | set[str]) -> bool:
    return any(a == first and b in seconds for a, b in pairwise(words))


def _select(code: list[Code], dialect: Dialect) -> Classification:
    verb = code[0].text
    for index, item in enumerate(code):
        if item.text == "INTO" and item.kind == "word" and _at(code, index + 1).kind != "variable":
            target = _at(code, index + 1).text
            what = target if target in ("OUTFILE", "DUMPFILE") else ""
            return Classification(verb, "write", reason=f"SELECT INTO {what}".strip())
    words = _words(code)
    if _has_pair(words, "FOR", {"UPDATE", "SHARE", "NO", "KEY"}) or _has_pair(words, "LOCK", {"IN"}):
        return Classification(verb, "write", reason="SELECT locks rows")
    return Classification(verb, "read")


def _with(code: list[Code], dialect: Dialect) -> Classification:
    main = _main(code)
    if not main:
        return Classification("WITH", "unknown")
    if code[main].text in ("SELECT", "VALUES", "TABLE"):
        return replace(_select(code, dialect), verb=code[main].text)
    return Classification(code[main].text, "write")


def _explain(code: list[Code], dialect: Dialect) -> Classification:
    """Plain EXPLAIN reads; EXPLAIN ANALYZE runs what it explains."""
    verb = code[0].text
    main = _explained(code)
    options = _words(code[: main or len(code)])
    if "ANALYZE" not in options and "ANALYSE" not in options:
        return Classification(verb, "read")
    if not main:
        return Classification(verb, "unknown")
    explained = _classify(code[main:], dialect)
    return replace(explained, verb=verb, uncounted=explained.kind == "write")


def _analyze(code: list[Code], dialect: Dialect) -> Classification:
    """MariaDB's ANALYZE runs the statement that follows; that of other servers gathers statistics."""
    main = _explained(code) if dialect == "mysql" else 0
    if main and _at(code, 1).text not in ("TABLE", "LOCAL", "NO_WRITE_TO_BINLOG"):
        return _explain(code, dialect)
    return Classification("ANALYZE", "ddl")


def _destructive(verb: str, kind: StatementKind, reason: str) -> Classification:
    return Classification(verb, kind, destructive=True, reason=reason)


def _lossy(code: list[Code], dialect: Dialect) -> Classification:
    verb = code[0].text
    return _destructive(verb, _KIND_OF.get(verb, "unknown"), " ".join(_words(code)[: 1 + (verb == "DROP")]))


def _alter(code: list[Code], dialect: Dialect) -> Classification:
    words = _words(code)
    what = " ".join(words[:2])
    for word, after in zip(words[1:], [*words[2:], ""], strict=True):
        if (word == "DROP" and after not in _HARMLESS_DROPS) or (word, after) in _LOSSY_ACTIONS:
            return _destructive("ALTER", "ddl", f"{what} {word}")
    return Classification("ALTER", "ddl")


def _create(code: list[Code], dialect: Dialect) -> Classification:
    words = _words(code)[:4]
    if dialect == "mysql" and words[1:3] == ["OR", "REPLACE"] and not _DROPPED_FIRST.isdisjoint(words[3:]):
        return _destructive("CREATE", "ddl", " ".join(words))
    bare = [index for index, item in enumerate(code) if item.text != "("]
    pairs = [(code[a].text, code[b].text) for a, b in pairwise(bare)]
    if dialect == "postgresql" and ("AS", "WITH") in pairs:
        query = bare[pairs.index(("AS", "WITH")) + 1]  # it may delete what it copies
        return replace(_classify(code[query:], dialect), verb="CREATE", kind="ddl")
    return Classification("CREATE", "ddl")


def _do(code: list[Code], dialect: Dialect) -> Classification:
    """MySQL's DO is a SELECT without an answer; of PostgreSQL's block what it runs by EXECUTE is not seen."""
    body, words = [item for item in code if item.kind == "string"], _words(code)
    is_foreign = "LANGUAGE" in words and "PLPGSQL" not in words
    hides = is_foreign or bool(re.search(_RUNS_UNSEEN, " ".join(item.text for item in body)))
    is_block = dialect == "postgresql"
    classification = Classification("DO", "write", disruptive=is_block and hides, uncounted=is_block)
    return _block(classification, "DO block", body)


def _block(classification: Classification, what: str, code: list[Code]) -> Classification:
    lossy = re.search(_LOSSY_WORD, " ".join(item.text for item in code))
    if lossy is None:
        return classification
    return replace(classification, destructive=True, reason=f"{what} with {lossy[1].upper()}")


def _copy(code: list[Code], dialect: Dialect) -> Classification:
    words = [item.text for item in code if item.kind == "word" and item.depth == code[0].depth]
    direction = next((word for word in words if word in ("FROM", "TO")), "")
    reason = "COPY PROGRAM" if "PROGRAM" in words else None
    return Classification(f"COPY {direction}".strip(), "copy", reason=reason)


def _pragma(code: list[Code], dialect: Dialect) -> Classification:
    texts = [item.text for item in code]
    name = texts[3] if texts[2:3] == ["."] and len(texts) > 3 else "".join(texts[1:2])
    assigns = "=" in texts or ("(" in texts and name not in _READING_PRAGMAS)
    return Classification("PRAGMA", "session" if assigns or name in _ACTING_PRAGMAS else "read")


def _set(code: list[Code], dialect: Dialect) -> Classification:
    second = _at(code, 1).text.upper()
    if second == "STATEMENT" and dialect == "mysql":
        return _set_for_one(code, dialect)
    if second == "TRANSACTION":
        return Classification("SET", "transaction")
    # Each of `SET a = 1, GLOBAL b = 2` says for itself whose it is.
    names = [b.text for a, b in pairwise(code) if a is code[0] or (a.text, a.depth) == (",", code[0].depth)]
    changes_server = any(re.match(_OF_THE_SERVER, name) for name in names)
    return Classification("SET", "ddl" if changes_server and dialect == "mysql" else "session")


def _set_for_one(code: list[Code], dialect: Dialect) -> Classification:
    """MariaDB's `SET STATEMENT variable = value FOR …` does what follows; it may make a session writable for that."""
    depth = code[0].depth
    start = next(
        (i for i, item in enumerate(code, 1) if item.text == "FOR" and item.depth == depth), len(code)
    )
    one = _classify(code[start:], dialect)
    return Classification("SET", "session") if one.kind == "read" else one


def _load(code: list[Code], dialect: Dialect) -> Classification:
    return Classification("LOAD", "write" if _at(code, 1).text in ("DATA", "XML") else "session")


def _begin(code: list[Code], dialect: Dialect) -> Classification:
    """MariaDB's `BEGIN NOT ATOMIC … END` runs anything; START REPLICA is no transaction."""
    verb, second = code[0].text, _at(code, 1).text
    other = second == "NOT" or (verb == "START" and second != "TRANSACTION")
    return Classification(verb, "unknown" if other else "transaction")


def _prepare(code: list[Code], dialect: Dialect) -> Classification:
    """By what is prepared, for EXECUTE does not show it; MariaDB's EXECUTE IMMEDIATE runs a text."""
    verb, second = code[0].text, _at(code, 1).text
    if second == "TRANSACTION" or (verb == "EXECUTE" and second != "IMMEDIATE"):
        return Classification(verb, "transaction" if verb == "PREPARE" else "unknown")
    if dialect == "mysql":
        given = list(takewhile(lambda item: item.text != "USING", code[2 if verb == "EXECUTE" else 3 :]))
        # There are N'…' and _utf8'…' too.
        text = next(
            (re.sub(r"\A[^'\"]*", "", item.text)[1:-1] for item in given if item.kind == "string"), ""
        )
        is_whole = [item.kind for item in given if item.text[:1] != "_"] == ["string"]
        effect = _effect(text, dialect)
        effect = effect if is_whole else replace(effect, disruptive=True, uncounted=True)
    else:
        start = next((index for index, item in enumerate(code, 1) if item.text == "AS"), 1)
        effect = _classify(code[start:], dialect)
    return replace(effect, verb=verb, kind=_KIND_OF.get(verb, "unknown"))


_SPECIAL = {
    "SELECT": _select, "VALUES": _select, "TABLE": _select, "WITH": _with,
    "EXPLAIN": _explain, "DESCRIBE": _explain, "DESC": _explain, "ANALYZE": _analyze,
    "DROP": _lossy, "TRUNCATE": _lossy, "PURGE": _lossy, "ALTER": _alter, "CREATE": _create,
    "DO": _do, "COPY": _copy, "PRAGMA": _pragma, "SET": _set, "LOAD": _load,
    "BEGIN": _begin, "START": _begin, "PREPARE": _prepare, "EXECUTE": _prepare,
}  # fmt: skip
