"""On which line a key stands."""

from __future__ import annotations

import tomllib

import pytest

from katax_cli.profiles.model.layer import dotted
from katax_cli.profiles.model.lines import line_of

TEXT = '''\
# role = "no"
role = "dev"
"quoted key".x = 1
[connections.main]   # comment
url = """
[ws.fake]
user = "no"
"""
user = 'a # """'
pool = { max = 1, min = 0 }
replicas = [
  "postgresql://a?user=x",
  "b = c",
]
note = """one line""" # and """
  [ connections . "my db" ]
  type = "mysql"
text = \'\'\'
[retry]\'\'\'
[retry]
attempts=3
[[array]]
x = 1
list = [
"""
fake = 1""",
]
[tail]
empty = """"""
last = 1
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("role", 2),
        ("quoted key", 3),
        ("quoted key/x", 3),
        ("connections/main", 4),
        ("connections/main/url", 5),
        ("connections/main/user", 9),
        ("connections/main/pool", 10),
        ("connections/main/pool/max", 10),
        ("connections/main/replicas", 11),
        ("connections/main/note", 15),
        ("connections/main/missing", 4),
        ("connections/my db/type", 17),
        ("connections/other", 4),
        ("retry/attempts", 21),
        ("array/x", 23),
        ("array/fake", 22),
        ("tail", 28),
        ("tail/last", 30),
    ],
)
def test_the_line_of_a_key(path: str, line: int) -> None:
    tomllib.loads(TEXT)
    assert line_of(TEXT, tuple(path.split("/"))) == line


def test_nothing_of_the_path_is_there() -> None:
    assert line_of(TEXT, ("ws", "chat")) is None
    assert line_of("", ("role",)) is None


def test_a_key_path_as_toml_writes_it() -> None:
    assert dotted(("connections", "my db", "a-b_c")) == 'connections."my db".a-b_c'
