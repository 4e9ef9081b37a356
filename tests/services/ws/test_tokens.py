"""The admin token: made once, kept for its owner alone."""

from __future__ import annotations

import os
from pathlib import Path
from threading import Thread

import pytest

from katax_cli.core.settings import Secret
from katax_cli.errors import ConfigError, UntrustedFile
from katax_cli.profiles.model.model import WsSettings
from katax_cli.services.ws.tokens import known_admin_token, made_admin_token, same, sent_token, token_file

SERVER = WsSettings("a/b")


def test_a_token_is_made_once_and_is_the_owners(tmp_path: Path) -> None:
    home = str(tmp_path / ".katax")

    first = made_admin_token(SERVER, home).reveal()

    assert made_admin_token(SERVER, home).reveal() == known_admin_token(SERVER, home).reveal() == first
    assert len(first) > 30
    assert os.stat(token_file(home, "a/b")).st_mode & 0o777 == 0o600
    assert sorted(os.listdir(home)) == [".gitignore", "ws-a%2Fb.token"]
    assert made_admin_token(WsSettings("other"), home).reveal() != first


def test_servers_that_start_together_share_it(tmp_path: Path) -> None:
    home, found = str(tmp_path), []
    threads = [
        Thread(target=lambda: found.append(made_admin_token(SERVER, home).reveal())) for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(found) == 20
    assert len(set(found)) == 1


def test_the_configured_one_comes_first(tmp_path: Path) -> None:
    settings = SERVER._replace(admin_token=Secret.of("mine"))

    assert made_admin_token(settings, str(tmp_path)).reveal() == "mine"
    assert known_admin_token(settings, str(tmp_path)).reveal() == "mine"
    assert os.listdir(tmp_path) == []


def test_none_yet_says_how_to_go_on(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as refused:
        known_admin_token(SERVER, str(tmp_path))

    assert "start 'katax ws serve' first" in str(refused.value)


def test_a_file_that_others_could_write_is_not_used(tmp_path: Path) -> None:
    made_admin_token(SERVER, str(tmp_path))
    os.chmod(token_file(str(tmp_path), "a/b"), 0o666)

    with pytest.raises(UntrustedFile):
        known_admin_token(SERVER, str(tmp_path))


def test_comparing_takes_text_only() -> None:
    expected = Secret.of("tökén")

    assert same("tökén", expected)
    for wrong in (None, "", "tökén2", "tök", b"t", ["tökén"], {"token": "tökén"}, 7, True):
        assert not same(wrong, expected)


def test_where_a_client_may_put_its_token() -> None:
    assert sent_token({"token": "a"}, {"HTTP_AUTHORIZATION": "Bearer b"}) == "a"
    assert sent_token(None, {"HTTP_AUTHORIZATION": "bearer b"}) == "b"
    assert sent_token("a", {"HTTP_AUTHORIZATION": "Basic b"}) is None
