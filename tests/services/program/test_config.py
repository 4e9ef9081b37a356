"""Where a value comes from, and what it becomes."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from katax_cli import Config, ConfigError

PROJECT = '[tool.katax]\nPORT = 8000\nNAME = "project"\nRATIO = 2\nFLAG = true\n'


def config(folder: Path, **environ: str) -> Config:
    return Config(str(folder), {"HOME": "/nowhere", **environ})


def write(folder: Path, name: str, text: str) -> None:
    path = folder / name
    path.write_text(text)
    path.chmod(0o644)


def test_the_first_source_that_has_it_wins(tmp_path: Path) -> None:
    assert config(tmp_path).get("NAME", "default") == "default"
    write(tmp_path, "pyproject.toml", PROJECT)
    assert config(tmp_path).get("NAME", "default") == "project"
    write(tmp_path, ".env", "NAME=file\n")
    assert config(tmp_path).get("NAME", "default") == "file"
    assert config(tmp_path, NAME="environment").get("NAME", "default") == "environment"


@pytest.mark.parametrize(
    ("text", "default", "value"),
    [
        ("8080", 3000, 8080),
        ("1.5", 0.1, 1.5),
        ("true", False, True),
        ("Yes", False, True),
        ("on", False, True),
        ("0", True, False),
        ("", True, False),
        ("[1, 2]", [], [1, 2]),
        ('{"a": 1}', {}, {"a": 1}),
        ("[1]", (), (1,)),
        ("0.10", Decimal(0), Decimal("0.10")),
        ("/tmp", Path("x"), Path("/tmp")),
        ("12", "text", "12"),
    ],
)
def test_text_becomes_what_the_default_is(tmp_path: Path, text: str, default: object, value: object) -> None:
    found = config(tmp_path, KEY=text).get("KEY", default)

    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("default", "kind"),
    [(3000, "whole number"), (1.0, "number"), (True, "boolean"), ([], "JSON list"), ({}, "JSON object")],
)
def test_text_that_cannot_is_an_error_that_does_not_quote_it(
    tmp_path: Path, default: object, kind: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        config(tmp_path, KEY="s3cr3t").get("KEY", default)

    assert str(caught.value) == f"the value of KEY is no {kind}, which its default is"


def test_json_of_another_kind_is_an_error_too(tmp_path: Path) -> None:
    with pytest.raises(ConfigError):
        config(tmp_path, KEY='{"a": 1}').get("KEY", [])


def test_without_a_default_text_stays_text(tmp_path: Path) -> None:
    assert config(tmp_path, KEY="12").get("KEY") == "12"
    assert config(tmp_path).get("KEY") is None


def test_values_of_the_project_have_their_own_type(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", PROJECT)
    found = config(tmp_path)

    assert found.get("PORT", 1) == 8000
    assert type(found.get("RATIO", 0.5)) is float
    assert found.get("FLAG") is True


def test_the_nearest_project_upward_counts(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", PROJECT)
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)

    assert config(inner).get("NAME") == "project"


def test_has_and_get_all(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", PROJECT)
    write(tmp_path, ".env", "NAME=file\nOTHER=${NAME}\n")
    found = config(tmp_path, REAL="1", OTHER="real")

    assert config(tmp_path).get("OTHER") == "${NAME}"
    assert [found.has(key) for key in ("REAL", "OTHER", "PORT", "NONE")] == [True, True, True, False]
    assert found.get_all() == {
        "PORT": 8000, "NAME": "file", "RATIO": 2, "FLAG": True, "OTHER": "real", "REAL": "1",
        "HOME": "/nowhere",
    }  # fmt: skip


def test_the_environment_is_looked_at_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = Config(str(tmp_path))
    assert found.get("KATAX_NEW", 0) == 0
    monkeypatch.setenv("KATAX_NEW", "5")
    assert found.get("KATAX_NEW", 0) == 5


def test_files_that_others_could_write_are_ignored_and_named(tmp_path: Path) -> None:
    write(tmp_path, ".env", "NAME=evil\n")
    (tmp_path / ".env").chmod(0o666)
    found = config(tmp_path)

    assert found.get("NAME", "default") == "default"
    assert any(".env" in note for note in found.notes)


def test_repr_shows_no_value(tmp_path: Path) -> None:
    assert repr(config(tmp_path, KEY="s3cr3t")) == f"<Config of {tmp_path}>"


def test_what_is_set_comes_first_and_stays_in_the_object(tmp_path: Path) -> None:
    made = config(tmp_path, PORT="1")
    made.set("PORT", "8080")
    made.set("OWN", [1])
    assert (made.get("PORT"), made.get("PORT", 3000), made.get("OWN")) == ("8080", 8080, [1])
    assert made.get_all()["PORT"] == "8080"
    assert type(made.get("PORT")) is str
    assert config(tmp_path, PORT="1").get("PORT", 0) == 1


def test_own_sources_the_first_one_first(tmp_path: Path) -> None:
    write(tmp_path, "settings.toml", 'PORT = 1\nNAME = "toml"\nRATIO = 2\n')
    write(tmp_path, "more.json", '{"NAME": "json", "TAGS": ["a"]}')
    write(tmp_path, "local.env", "PORT=2\nDEBUG=yes\n")
    write(tmp_path, "pyproject.toml", PROJECT)
    changing: dict[str, object] = {}
    made = Config(
        str(tmp_path),
        {"FLAG": "environment"},
        sources=[changing, "local.env", tmp_path / "settings.toml", "more.json", "missing.env"],
    )
    assert (made.get("PORT", 0), made.get("NAME"), made.get("TAGS")) == (2, "toml", ["a"])
    assert (made.get("DEBUG", False), made.get("RATIO", 0.5), made.get("FLAG")) == (True, 2.0, None)
    changing["PORT"] = "9"
    assert made.get("PORT", 0) == 9
    assert made.get_all() == {"PORT": "9", "NAME": "toml", "RATIO": 2, "TAGS": ["a"], "DEBUG": "yes"}

    (tmp_path / "local.env").chmod(0o666)
    again = Config(str(tmp_path), {}, sources=["local.env"])
    assert not again.has("PORT")
    assert again.notes == [
        f"ignored {tmp_path}/local.env: everyone can write it; run chmod o-w on it to use it"
    ]
    write(tmp_path, "more.json", "[1]")
    for source, text in (
        ("more.json", "holds list, expected an object with the values"),
        ("bad.toml", "not valid"),
    ):
        write(tmp_path, "bad.toml", "= 1")
        with pytest.raises(ConfigError) as error:
            Config(str(tmp_path), {}, sources=[source]).get("PORT")
        assert text in str(error.value)
    wrong: list[Any] = [3]
    with pytest.raises(TypeError):
        Config(str(tmp_path), {}, sources=wrong)


def test_a_required_value(tmp_path: Path) -> None:
    write(tmp_path, "pyproject.toml", PROJECT)
    made = config(tmp_path, WORKERS="4", EMPTY="", WEIRD="s3cr3t")
    assert made.required("WORKERS") == "4"
    assert made.required("WORKERS", int) == 4
    assert made.required("PORT", int) == 8000
    assert made.required("FLAG", bool) is True
    for key in ("MISSING", "EMPTY"):
        with pytest.raises(ConfigError) as error:
            made.required(key)
        assert str(error.value) == f"{key} is not set; set it in the environment or in {tmp_path}/.env"
    with pytest.raises(ConfigError) as error:
        made.required("WEIRD", int)
    assert str(error.value) == "the value of WEIRD is no whole number"
