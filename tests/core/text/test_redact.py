"""Nothing secret in what is written."""

from __future__ import annotations

import pytest

from katax_cli.core.text.redact import MASK, Redactor, is_secret_name


@pytest.mark.parametrize(
    "name",
    ["password", "DB_PASSWORD", "passwd", "apiKey", "api_key", "X-Auth-Token", "Authorization", "Set-Cookie",
     "client_secret", "private-key", "connectionString"],
)  # fmt: skip
def test_names_that_say_secret(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", ["user", "path", "key", "message", "passenger", "host"])
def test_names_that_do_not(name: str) -> None:
    assert not is_secret_name(name)


def test_values_are_masked_however_deep() -> None:
    redact = Redactor(lambda: ["hunter22"])

    assert redact.fields(
        {
            "password": "x",
            "user": {"token": 17, "name": "ann"},
            "list": [{"secret": "y"}, "says hunter22"],
            "error": ValueError("hunter22 refused"),
            "none": {"password": None},
            "n": 3,
            "ok": True,
        }
    ) == {
        "password": MASK,
        "user": {"token": MASK, "name": "ann"},
        "list": [{"secret": MASK}, f"says {MASK}"],
        "error": f"ValueError: {MASK} refused",
        "none": {"password": None},
        "n": 3,
        "ok": True,
    }


def test_a_structure_that_holds_itself_ends() -> None:
    loop: dict[str, object] = {}
    loop["self"] = loop

    assert "self" in Redactor().fields(loop)


def test_the_longer_of_two_secrets_goes_first() -> None:
    assert Redactor(lambda: ["pass", "password1"]).text("password1 pass") == f"{MASK} {MASK}"


def test_short_values_are_words() -> None:
    assert Redactor(lambda: ["app", ""]).text("app starts") == "app starts"


def test_secrets_are_asked_for_at_each_use() -> None:
    known: list[str] = []
    redact = Redactor(lambda: known)
    assert redact.text("s3cr3t") == "s3cr3t"
    known.append("s3cr3t")
    assert redact.text("s3cr3t") == MASK


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("to postgresql://app:pw@db/x now", "to postgresql://app:***@db/x now"),
        ("redis://:pw@h:1/0", "redis://:***@h:1/0"),
        ("mongodb+srv://u:p%40@h", "mongodb+srv://u:***@h"),
        ("mysql://u:p@ss@h", "mysql://u:***@h"),
        ("https://example.com/a?b=c", "https://example.com/a?b=c"),
    ],
)
def test_passwords_in_urls(text: str, shown: str) -> None:
    assert Redactor().text(text) == shown
